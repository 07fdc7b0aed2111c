// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryRegisterGpu is Network {
    IProviderRegistry.Gpu private gpu = IProviderRegistry.Gpu("H200", 141 << 30, 4_800_000_000_000, 5_000, 0);

    function test_registerGpu__each__asks_for_its_stake() public {
        _joinProvider();
        vm.startPrank(owner);
        for (uint256 i; i < 10; ++i) {
            assertEq(providers.registerGpu(gpu), i);
        }
        assertEq(providers.requiredStake(owner), 20_000 ether);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StakeBelowMinimum.selector, STAKE, 21_000 ether));
        providers.registerGpu(gpu);
        vm.stopPrank();
        assertEq(providers.gpusOf(owner).length, 10);
        assertEq(providers.gpusOf(owner)[0].model, "H200");
    }
}
