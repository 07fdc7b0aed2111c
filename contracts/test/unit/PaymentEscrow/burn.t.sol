// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowBurn is Network {
    function testFuzz_burn__of_debited_money__keeps_the_ledger(uint96 amount) public {
        amount = uint96(bound(amount, 1, 100 ether));
        _fundPayer(amount);
        vm.prank(address(settlement));
        escrow.debit(payer, gateway, owner, modelId, amount);
        uint256 supply = token.totalSupply();
        vm.prank(address(settlement));
        escrow.burn(amount);
        assertEq(token.totalSupply(), supply - amount);
        _assertLedgers();
    }

    function test_burn__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.NotAllowed.selector, address(this)));
        escrow.burn(1);
    }
}
