// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryJail is Network {
    function test_jail__keeps_from_serving_and_offering() public {
        _joinProvider();
        vm.prank(address(disputes));
        providers.jail(owner);
        assertFalse(providers.isServing(owner));
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.Jailed.selector, uint64(block.timestamp) + 300));
        providers.makeOffer(_offer(0, 10));
        vm.stopPrank();
    }

    function test_jail__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotAllowed.selector, address(this)));
        providers.jail(owner);
    }
}
