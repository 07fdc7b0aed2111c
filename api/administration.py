"""Keys, management keys and sponsorships over HTTP. Whoever calls is the gateway's operator, or manages the keys of one payer."""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from api import BadRequest, NoSuchModel, key_schema
from api.cover import Cover
from api.keys import KeyStore
from api.limits import RateLimits
from api.managers import Manager, Managers
from api.sponsorships import Sponsorships

ANONYMOUS_PER_MINUTE = 30
"""Sign-ins and claims by one address of the network."""
MOST_KEYS = 1_000
"""Of a payer, live or not, where somebody else than the operator makes them."""


@dataclass
class Administration:
    """The routes."""

    keys: KeyStore
    managers: Managers
    sponsorships: Sponsorships
    cover: Cover
    limits: RateLimits

    def routes(self) -> APIRouter:
        router = APIRouter()

        async def manager(request: Request) -> Manager:
            return await self.managers.authenticate(request.headers.get("authorization"))

        async def anybody(request: Request, response: Response) -> None:
            address = request.client.host if request.client else ""
            response.headers.update(await self.limits.take(f"anonymous {address}", ANONYMOUS_PER_MINUTE))

        async def own_key(key_id: str, by: Manager = Depends(manager)) -> dict[str, Any]:  # noqa: B008
            """A live key that the caller may manage."""
            key = await self.keys.one(key_id)
            if by.payer not in (None, key["payer"]):
                raise NoSuchModel(f"no live key {key_id}", code="no_such_key")
            return key

        @router.post("/v1/keys", status_code=201)
        async def create_key(request: key_schema.KeyRequest, by: Manager = Depends(manager)) -> dict[str, Any]:  # noqa: B008
            payer = by.payer_for(request.payer)
            if by.payer and len(await self.keys.list(payer)) >= MOST_KEYS:
                raise BadRequest(f"{payer} has {MOST_KEYS} keys; rotate one, or ask the gateway's operator for more", code="too_many_keys")
            made = await self.keys.create(request.name, payer, request.to_policy())
            await self.cover.refresh_credit(payer)
            return made

        @router.get("/v1/keys")
        async def list_keys(by: Manager = Depends(manager)) -> dict[str, Any]:  # noqa: B008
            return {"data": await self.keys.list(by.payer)}

        @router.get("/v1/keys/{key_id}")
        async def one_key(key: dict[str, Any] = Depends(own_key)) -> dict[str, Any]:  # noqa: B008
            return key

        @router.patch("/v1/keys/{key_id}")
        async def change_key(request: key_schema.KeyChange, key: dict[str, Any] = Depends(own_key)) -> dict[str, Any]:  # noqa: B008
            name = request.name if "name" in request.model_fields_set else None
            return await self.keys.change(key["id"], name, request.changes())

        @router.post("/v1/keys/{key_id}/rotate")
        async def rotate_key(request: key_schema.Rotation, key: dict[str, Any] = Depends(own_key)) -> dict[str, Any]:  # noqa: B008
            return await self.keys.rotate(key["id"], request.grace_seconds)

        @router.delete("/v1/keys/{key_id}")
        async def revoke_key(key: dict[str, Any] = Depends(own_key)) -> dict[str, Any]:  # noqa: B008
            await self.keys.revoke(key["id"])
            return {"id": key["id"], "revoked": True}

        @router.post("/v1/auth/challenge", dependencies=[Depends(anybody)])
        async def challenge(http: Request, request: key_schema.ChallengeRequest) -> dict[str, Any]:
            """A message to be signed with the wallet of an address (EIP-4361)."""
            return await self.managers.challenge(request.address, http.url.netloc, http.url.scheme)

        @router.post("/v1/auth/sign-in", dependencies=[Depends(anybody)])
        async def sign_in(request: key_schema.SignIn) -> dict[str, Any]:
            """A management key of a day for whoever signed the message."""
            return await self.managers.sign_in(request.nonce, request.signature)

        @router.post("/v1/management-keys", status_code=201)
        async def create_manager(request: key_schema.ManagementKeyRequest, by: Manager = Depends(manager)) -> dict[str, Any]:  # noqa: B008
            return await self.managers.create(request.name, by.payer_for(request.payer), request.expires_at)

        @router.get("/v1/management-keys")
        async def list_managers(by: Manager = Depends(manager)) -> dict[str, Any]:  # noqa: B008
            return {"data": await self.managers.list(by.payer)}

        @router.delete("/v1/management-keys/{key_id}")
        async def revoke_manager(key_id: str, by: Manager = Depends(manager)) -> dict[str, Any]:  # noqa: B008
            await self.managers.revoke(key_id, by.payer)
            return {"id": key_id, "revoked": True}

        @router.post("/v1/sponsorships", status_code=201)
        async def create_sponsorship(request: key_schema.SponsorshipRequest, by: Manager = Depends(manager)) -> dict[str, Any]:  # noqa: B008
            return await self.sponsorships.create(by.payer_for(request.payer), request)

        @router.get("/v1/sponsorships")
        async def list_sponsorships(by: Manager = Depends(manager)) -> dict[str, Any]:  # noqa: B008
            return {"data": await self.sponsorships.list(by.payer)}

        @router.post("/v1/sponsorships/claim", status_code=201, dependencies=[Depends(anybody)])
        async def claim(request: key_schema.Claim) -> dict[str, Any]:
            """A key that a sponsor pays for, for whoever has the code."""
            made = await self.sponsorships.claim(request.code)
            await self.cover.refresh_credit(made["payer"])
            return made

        @router.delete("/v1/sponsorships/{name}")
        async def revoke_sponsorship(name: str, by: Manager = Depends(manager)) -> dict[str, Any]:  # noqa: B008
            await self.sponsorships.revoke(name, by.payer)
            return {"id": name, "revoked": True}

        return router
