// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ModelRegistryDeprecate is Network {
    function test_deprecate__after_its_delay__takes_no_offers() public {
        _joinProvider();
        vm.prank(creator);
        models.deprecate(modelId);
        assertEq(uint8(models.statusOf(modelId)), uint8(IModelRegistry.Status.Active));
        skip(200);
        assertEq(uint8(models.model(modelId).status), uint8(IModelRegistry.Status.Deprecated));
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NoSuchModel.selector, modelId));
        providers.makeOffer(_offer(0, 10));
        _fundPayer(10 ether);
        assertEq(uint8(_redeem(1 ether)), uint8(ISettlement.Result.Redeemed));
    }

    function test_deprecate__twice_or_by_another__reverts() public {
        _registerModel(500);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotCreator.selector, address(this)));
        models.deprecate(modelId);
        vm.startPrank(creator);
        models.deprecate(modelId);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotActive.selector, modelId));
        models.deprecate(modelId);
        vm.stopPrank();
    }

    function test_attestTolerance__deprecated__reverts() public {
        _registerModel(500);
        _joinVerifiers();
        vm.prank(creator);
        models.deprecate(modelId);
        skip(200);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotActive.selector, modelId));
        models.attestTolerance(modelId, keccak256("tolerance"), 0, new uint256[](0), "");
    }
}
