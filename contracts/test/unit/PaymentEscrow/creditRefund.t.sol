// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowCreditRefund is Network {
    function testFuzz_creditRefund__of_debited_money__keeps_the_ledger(uint96 amount) public {
        amount = uint96(bound(amount, 1, 100 ether));
        _fundPayer(amount);
        vm.prank(address(settlement));
        escrow.debit(payer, gateway, owner, modelId, amount);
        vm.prank(address(settlement));
        escrow.creditRefund(payer, amount);
        assertEq(escrow.depositOf(payer).balance, amount);
        _assertLedgers();
    }

    function test_creditRefund__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.NotAllowed.selector, address(this)));
        escrow.creditRefund(payer, 1);
    }
}
