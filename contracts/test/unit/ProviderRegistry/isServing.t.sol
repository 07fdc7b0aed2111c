// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryIsServing is Network {
    IProviderRegistry.Gpu private gpu = IProviderRegistry.Gpu("H200", 141 << 30, 4_800_000_000_000, 5_000, 0);

    function test_isServing__stake_falls_below__is_not() public {
        _joinProvider();
        vm.startPrank(owner);
        providers.registerGpu(gpu);
        staking.beginUnbonding(9_001 ether);
        vm.stopPrank();
        assertFalse(providers.isServing(owner));
        assertEq(providers.offersFor(modelId).length, 0);
    }
}
