// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowStartBondWithdrawal is Network {
    function test_startBondWithdrawal__thaws_what_is_not_allocated() public {
        _bond(50 ether, 30 ether);
        vm.startPrank(gateway);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.InsufficientBalance.selector, 20 ether, 21 ether));
        escrow.startBondWithdrawal(21 ether);
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.startBondWithdrawal(0);
        escrow.startBondWithdrawal(20 ether);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.InsufficientBalance.selector, 30 ether, 31 ether));
        escrow.allocate(payer, 1 ether);
        vm.stopPrank();
        assertEq(escrow.bondOf(gateway).thawing, 20 ether);
    }
}
