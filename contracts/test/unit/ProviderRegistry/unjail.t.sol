// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryUnjail is Network {
    function test_unjail__after_the_jail_period__serves_again() public {
        _joinProvider();
        vm.prank(address(disputes));
        providers.jail(owner);
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.Jailed.selector, uint64(block.timestamp) + 300));
        providers.unjail();
        skip(300);
        providers.unjail();
        vm.stopPrank();
        assertTrue(providers.isServing(owner));
    }
}
