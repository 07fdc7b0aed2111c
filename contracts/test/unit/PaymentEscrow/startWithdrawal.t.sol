// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowStartWithdrawal is Network {
    function testFuzz_startWithdrawal__again__begins_anew(uint96 first, uint96 second, uint32 wait) public {
        first = uint96(bound(first, 1, type(uint96).max));
        second = uint96(bound(second, 1, type(uint96).max));
        vm.startPrank(payer);
        escrow.startWithdrawal(first);
        skip(wait);
        escrow.startWithdrawal(second);
        vm.stopPrank();
        assertEq(escrow.depositOf(payer).thawing, second);
        assertEq(escrow.depositOf(payer).thawedAt, block.timestamp + 600);
    }

    function test_startWithdrawal__nothing__reverts() public {
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.startWithdrawal(0);
    }
}
