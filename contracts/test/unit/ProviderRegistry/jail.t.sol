// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryJail is Network {
    function test_jail__keeps_from_serving_until_its_end() public {
        _joinProvider();
        vm.prank(address(disputes));
        providers.jail(owner);
        assertFalse(providers.isServing(owner));
        vm.startPrank(owner);
        uint64 until = uint64(block.timestamp) + 300;
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.Jailed.selector, until));
        providers.unjail();
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.Jailed.selector, until));
        providers.makeOffer(_offer(0, 10));
        skip(300);
        providers.unjail();
        vm.stopPrank();
        assertTrue(providers.isServing(owner));
    }

    function test_jail__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotAllowed.selector, address(this)));
        providers.jail(owner);
    }
}
