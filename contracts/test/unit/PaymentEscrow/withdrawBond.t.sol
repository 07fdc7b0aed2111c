// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowWithdrawBond is Network {
    function test_withdrawBond__after_the_thaw__pays() public {
        _bond(50 ether, 30 ether);
        vm.startPrank(gateway);
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.withdrawBond();
        escrow.startBondWithdrawal(20 ether);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.StillThawing.selector, uint64(block.timestamp) + 600));
        escrow.withdrawBond();
        skip(600);
        assertEq(escrow.withdrawBond(), 20 ether);
        vm.stopPrank();
        assertEq(token.balanceOf(gateway), 20 ether);
        _assertLedgers();
    }
}
