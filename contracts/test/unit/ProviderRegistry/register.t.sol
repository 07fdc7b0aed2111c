// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryRegister is Network {
    function test_register__with_stake__is_a_provider() public {
        _joinProvider();
        IProviderRegistry.Provider memory info = providers.providerInfo(owner);
        assertEq(info.operator, operator);
        assertEq(info.registeredAt, block.timestamp);
        assertEq(providers.providerOf(operator), owner);
        assertEq(providers.providerOfOperator(operator), owner);
        assertTrue(providers.isServing(owner));
        assertFalse(providers.isServing(payer));
    }

    function test_register__without_stake_twice_or_with_a_taken_key__reverts() public {
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StakeBelowMinimum.selector, 0, 10_000 ether));
        providers.register(operator, "x", 0);
        _joinProvider();
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.AlreadyRegistered.selector, owner));
        providers.register(makeAddr("new"), "x", 0);
        _stake(payer, STAKE);
        vm.startPrank(payer);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.OperatorTaken.selector, operator));
        providers.register(operator, "x", 0);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.OperatorTaken.selector, address(0)));
        providers.register(address(0), "x", 0);
        vm.stopPrank();
    }
}
