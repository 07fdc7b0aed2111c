// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowSetLimit is Network {
    bytes32[] private any;

    function _set(uint128 amount, uint64 period, uint64 expiry, bytes32[] memory list) private {
        vm.prank(payer);
        escrow.setLimit(gateway, amount, period, expiry, list);
    }

    function _now(uint256 more) private view returns (uint64) {
        return uint64(block.timestamp + more);
    }

    function _free(bytes32 model) private view returns (uint256 fromPayer) {
        (fromPayer,) = escrow.available(payer, gateway, owner, model);
    }

    function test_setLimit__reserves_for_the_period() public {
        _fundPayer(10 ether);
        IPaymentEscrow.Limit memory limit = escrow.limitOf(payer, gateway);
        assertEq(limit.reserved, 10 ether);
        assertEq(limit.room, 0);
        assertEq(limit.periodEnd, block.timestamp + 1 days);
        assertEq(escrow.depositOf(payer).balance, 0);
        // A second gateway cannot reserve it again.
        vm.prank(payer);
        escrow.setLimit(address(this), 10 ether, 1 days, _now(1 days), any);
        assertEq(escrow.limitOf(payer, address(this)).reserved, 0);
        assertEq(escrow.limitOf(payer, address(this)).room, 10 ether);
    }

    function test_setLimit__bad_values__reverts() public {
        vm.startPrank(payer);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 0, 1 days, _now(1 days), any);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, uint128(type(uint88).max) + 1, 1 days, _now(1 days), any);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 1, 0, _now(1 days), any);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 1, type(uint32).max, _now(1 days), any);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 1, 1 days, _now(0), any);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 1, 1 days, type(uint64).max, any);
        vm.stopPrank();
    }

    function test_setLimit__while_it_holds__may_grow_and_not_shrink() public {
        _set(10 ether, 1 days, _now(10 days), any);
        vm.startPrank(payer);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 9 ether, 1 days, _now(10 days), any);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 10 ether, 1 days, _now(9 days), any);
        escrow.setLimit(gateway, 11 ether, 1 days, _now(10 days), any);
        escrow.revokeLimit(gateway);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 12 ether, 1 days, _now(10 days), any);
        skip(600);
        escrow.setLimit(gateway, 1 ether, 1 days, _now(10 days), any);
        vm.stopPrank();
        assertEq(escrow.limitOf(payer, gateway).amountPerPeriod, 1 ether);
    }

    function test_setLimit__model_list__can_be_widened_and_not_narrowed() public {
        token.approve(address(escrow), 10 ether);
        escrow.deposit(payer, 10 ether);
        bytes32[] memory list = new bytes32[](1);
        list[0] = "a";
        _set(10 ether, 1 days, _now(10 days), list);
        assertEq(_free("a"), 10 ether);
        assertEq(_free("b"), 0);
        list[0] = "b";
        _set(10 ether, 1 days, _now(10 days), list);
        assertEq(_free("a"), 10 ether);
        assertEq(_free("b"), 10 ether);
        _set(10 ether, 1 days, _now(10 days), any);
        assertEq(_free("c"), 10 ether);
        _set(10 ether, 1 days, _now(10 days), list);
        assertEq(_free("c"), 10 ether);
    }

    function test_setLimit__after_its_end__begins_a_new_list() public {
        token.approve(address(escrow), 10 ether);
        escrow.deposit(payer, 10 ether);
        bytes32[] memory list = new bytes32[](1);
        list[0] = "a";
        _set(10 ether, 1 days, _now(1 days), list);
        skip(1 days + 600);
        list[0] = "b";
        _set(4 ether, 1 days, _now(1 days), list);
        assertEq(_free("a"), 0);
        assertEq(_free("b"), 4 ether);
        assertEq(escrow.depositOf(payer).balance, 6 ether);
    }
}
