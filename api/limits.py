"""How often a key may ask: a moving window of a minute, told in OpenAI's headers."""

import time
from dataclasses import dataclass, field

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from api import TooManyRequests


@dataclass
class RateLimits:
    """Requests a minute for each key. The window is this process's own; a key's money is guarded in the database."""

    per_minute: int
    _limiter: MovingWindowRateLimiter = field(default_factory=lambda: MovingWindowRateLimiter(MemoryStorage()))

    async def take(self, key_id: str, per_minute: int | None = None) -> dict[str, str]:
        """Count a request; the headers that tell what is left. ``per_minute``: the key's own limit. Raises TooManyRequests, with when to come
        again."""
        most = per_minute or self.per_minute
        item = RateLimitItemPerMinute(most)
        allowed = await self._limiter.hit(item, key_id)
        stats = await self._limiter.get_window_stats(item, key_id)
        wait = max(0.0, stats.reset_time - time.time())
        headers = {
            "x-ratelimit-limit-requests": str(most),
            "x-ratelimit-remaining-requests": str(stats.remaining),
            "x-ratelimit-reset-requests": f"{wait:.1f}s",
        }
        if not allowed:
            words = f"this key may ask {most} times a minute; come again in {wait:.1f} s"
            retry = {"retry-after": str(int(wait) + 1), "retry-after-ms": str(int(wait * 1000) + 1)}
            raise TooManyRequests(words, code="rate_limit_exceeded", headers={**headers, **retry})
        return headers
