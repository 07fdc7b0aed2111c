// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ModelRegistryRegister is Network {
    function test_register__after_commitment__is_the_creators() public {
        _registerModel(500);
        IModelRegistry.Model memory m = models.model(modelId);
        assertEq(modelId, keccak256(abi.encode(m.manifestRoot)));
        assertEq(m.creator, creator);
        assertEq(uint8(m.status), uint8(IModelRegistry.Status.Active));
        (address payout, uint16 bps) = models.royaltyOf(modelId);
        assertEq(payout, creator);
        assertEq(bps, 500);
        assertFalse(models.isAttested(modelId));
    }

    function test_register__without_or_too_soon_after_a_commitment__reverts() public {
        IModelRegistry.Registration memory r = _registration(500);
        bytes32 commitment = keccak256(abi.encode(r, creator));
        vm.startPrank(creator);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NoCommitment.selector, commitment));
        models.register(r);
        models.commit(commitment);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.CommitmentTooYoung.selector, uint64(block.timestamp) + 1));
        models.register(r);
        vm.stopPrank();
    }

    function test_register__bad_values__reverts() public {
        IModelRegistry.Registration[5] memory bad;
        for (uint256 i; i < 5; ++i) {
            bad[i] = _registration(500);
        }
        bad[0].payout = address(0);
        bad[1].layerCount = 0;
        bad[2].layerCount = 257;
        bad[3].manifestRoot = 0;
        bad[4].royaltyBps = 2_001;
        for (uint256 i; i < 5; ++i) {
            models.commit(keccak256(abi.encode(bad[i], address(this))));
        }
        skip(1);
        for (uint256 i; i < 4; ++i) {
            vm.expectRevert(IModelRegistry.BadRegistration.selector);
            models.register(bad[i]);
        }
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.RoyaltyTooHigh.selector, 2_001, 2_000));
        models.register(bad[4]);
    }

    function test_register__taken__reverts() public {
        _registerModel(500);
        IModelRegistry.Registration memory r = _registration(100);
        models.commit(keccak256(abi.encode(r, address(this))));
        skip(1);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelTaken.selector, modelId));
        models.register(r);
    }
}
