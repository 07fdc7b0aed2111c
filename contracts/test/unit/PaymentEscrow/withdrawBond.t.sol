// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowWithdrawBond is Network {
    function test_bond__withdrawal__thaws_what_is_not_allocated() public {
        _bond(50 ether, 30 ether);
        vm.startPrank(gateway);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.InsufficientBalance.selector, 20 ether, 21 ether));
        escrow.startBondWithdrawal(21 ether);
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.startBondWithdrawal(0);
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.withdrawBond();
        escrow.startBondWithdrawal(20 ether);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.InsufficientBalance.selector, 30 ether, 31 ether));
        escrow.allocate(payer, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.StillThawing.selector, uint64(block.timestamp) + 600));
        escrow.withdrawBond();
        skip(600);
        assertEq(escrow.withdrawBond(), 20 ether);
        vm.stopPrank();
        assertEq(token.balanceOf(gateway), 20 ether);
        _assertLedgers();
    }
}
