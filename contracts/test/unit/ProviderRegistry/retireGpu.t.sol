// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryRetireGpu is Network {
    function test_retireGpu__once__frees_its_stake() public {
        _joinProvider();
        vm.startPrank(owner);
        uint256 before = providers.requiredStake(owner);
        providers.registerGpu(IProviderRegistry.Gpu("H200", 141 << 30, 4_800_000_000_000, 5_000, 0));
        providers.retireGpu(0);
        assertEq(providers.requiredStake(owner), before);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NoSuchGpu.selector, 0));
        providers.retireGpu(0);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NoSuchGpu.selector, 1));
        providers.retireGpu(1);
        vm.stopPrank();
    }
}
