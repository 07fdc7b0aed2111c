// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

/// @notice A plant on its way: this contract is the planter; judge 0 challenges what judge 1 may have passed.
abstract contract Planted is Network {
    bytes32 internal constant SALT = "salt";
    uint96 internal constant BOUNTY = 200 ether;
    uint96 internal constant FINE = 1_000 ether;
    uint256 internal payerKey;
    bytes32 internal plantHash;
    uint64 internal plantEpoch;
    IDisputes.Claim internal planted;

    function setUp() public virtual override {
        super.setUp();
        (payer, payerKey) = makeAddrAndKey("payer");
    }

    function _note() internal {
        _joinAll();
        _noteAs(SALT);
    }

    function _noteAs(bytes32 salt) internal {
        plantHash = plants.hashOf(salt, owner, payer);
        token.approve(address(plants), BOUNTY);
        plants.note(plantHash);
        skip(1);
    }

    function _convict() internal {
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        planted = claim;
        plantEpoch = commitments.batch(owner, claim.batchId).epoch;
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
    }

    function _consent() internal view returns (bytes memory) {
        bytes32 digest = keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", plants.consentTo(plantHash)));
        return _sign(payerKey, digest);
    }

    /// @dev Noted, served, convicted; `verdict` is what judge 1 has in its duty root. Then opened.
    function _revealed(IPlants.Verdict verdict) internal returns (IPlants.Result memory result, bytes32[] memory proof) {
        _note();
        return _convictAndReveal(SALT, verdict);
    }

    /// @dev A first plant, and what judge 1 says of it.
    function _answeredFirst(IPlants.Verdict verdict) internal {
        (IPlants.Result memory result, bytes32[] memory proof) = _revealed(verdict);
        plants.answer(plantHash, 1, _duty(1), result, proof);
    }

    /// @dev Another plant, and what judge 1 says of it.
    function _answeredNext(IPlants.Verdict verdict) internal {
        bytes32 salt = plantHash;
        _noteAs(salt);
        (IPlants.Result memory result, bytes32[] memory proof) = _convictAndReveal(salt, verdict);
        plants.answer(plantHash, 1, _duty(1), result, proof);
    }

    function _convictAndReveal(bytes32 salt, IPlants.Verdict verdict)
        private
        returns (IPlants.Result memory result, bytes32[] memory proof)
    {
        _convict();
        skip(10);
        result = IPlants.Result(owner, planted.batchId, planted.receipt.number, verdict, "commitment", "opening");
        proof = new bytes32[](1);
        proof[0] = "another check";
        bytes32 root = _root(result, proof[0]);
        vm.prank(judges[1]);
        verifiers.postDuties(plantEpoch, 1, root, 2);
        plants.reveal(planted, salt, _consent());
    }

    function _root(IPlants.Result memory result, bytes32 sibling) internal view returns (bytes32) {
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(result))));
        (bytes32 a, bytes32 b) = leaf < sibling ? (leaf, sibling) : (sibling, leaf);
        return keccak256(abi.encode(keccak256(_duty(1)), keccak256(bytes.concat(a, b))));
    }

    function _duty(uint256 seat) internal view returns (bytes memory) {
        return Bls.sign(seat + 1, verifiers.messageFor("DUTY", address(verifiers), plantEpoch, commitments.tip(plantEpoch)));
    }
}
