// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowDeposit is Network {
    function testFuzz_deposit__for_a_payer__adds(uint96 amount) public {
        amount = uint96(bound(amount, 1, 1_000_000 ether));
        token.approve(address(escrow), amount);
        escrow.deposit(payer, amount);
        assertEq(escrow.depositOf(payer).balance, amount);
        _assertLedgers();
    }

    function test_deposit__nothing_or_paused__reverts() public {
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.deposit(payer, 0);
        escrow.pause(escrow.deposit.selector);
        vm.expectPartialRevert(Guarded.Paused.selector);
        escrow.deposit(payer, 1);
    }

    function test_deposit__during_a_thaw__leaves_its_timer() public {
        _fundPayer(10 ether);
        vm.prank(payer);
        escrow.startWithdrawal(5 ether);
        uint64 at = escrow.depositOf(payer).thawedAt;
        skip(100);
        token.approve(address(escrow), 1 ether);
        escrow.deposit(payer, 1 ether);
        assertEq(escrow.depositOf(payer).thawedAt, at);
        assertEq(escrow.depositOf(payer).thawing, 5 ether);
    }
}
