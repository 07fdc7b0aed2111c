// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ModelRegistrySetPayout is Network {
    function test_setPayout__by_the_creator__moves_the_royalty() public {
        _registerModel(500);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotCreator.selector, address(this)));
        models.setPayout(modelId, address(1));
        vm.startPrank(creator);
        models.setPayout(modelId, address(1));
        vm.expectRevert(IModelRegistry.BadRegistration.selector);
        models.setPayout(modelId, address(0));
        vm.stopPrank();
        (address payout,) = models.royaltyOf(modelId);
        assertEq(payout, address(1));
    }
}
