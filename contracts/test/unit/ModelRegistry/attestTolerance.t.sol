// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ModelRegistryAttestTolerance is Network {
    function _message(bytes32 root) internal view returns (bytes memory) {
        bytes32 payload = keccak256(abi.encode(modelId, root));
        return verifiers.messageFor("TOLERANCE", address(models), verifiers.currentEpoch(), payload);
    }

    function _attestRoot(bytes32 root, uint256 signers) internal {
        models.attestTolerance(modelId, root, verifiers.currentEpoch(), new uint256[](0), _aggregate(_message(root), 0, signers));
    }

    function test_attestTolerance__by_all__turns_slashing_on() public {
        _registerModel(500);
        _joinVerifiers();
        _attest();
        assertTrue(models.isAttested(modelId));
    }

    function test_attestTolerance__not_all_another_root_or_too_old__reverts() public {
        _registerModel(500);
        _joinVerifiers();
        vm.expectRevert(IModelRegistry.BadAttestation.selector);
        this.attest(keccak256("tolerance"), 2);
        vm.expectRevert(IModelRegistry.BadAttestation.selector);
        this.attest("other", 3);
        uint64 epoch = verifiers.currentEpoch();
        bytes memory signature = _aggregate(_message(keccak256("tolerance")), 0, 3);
        skip(1_010);
        vm.expectRevert(IModelRegistry.BadAttestation.selector);
        models.attestTolerance(modelId, keccak256("tolerance"), epoch, new uint256[](0), signature);
    }

    function attest(bytes32 root, uint256 signers) external {
        _attestRoot(root, signers);
    }
}
