// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowWithdraw is Network {
    function _deposit(uint128 amount) private {
        token.approve(address(escrow), amount);
        escrow.deposit(payer, amount);
    }

    function testFuzz_withdraw__after_the_thaw__pays_what_is_there(uint96 amount, uint96 asked) public {
        amount = uint96(bound(amount, 1, 1_000_000 ether));
        asked = uint96(bound(asked, 1, type(uint96).max));
        _deposit(amount);
        vm.startPrank(payer);
        escrow.startWithdrawal(asked);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.StillThawing.selector, uint64(block.timestamp) + 600));
        escrow.withdraw();
        skip(600);
        uint256 paid = escrow.withdraw();
        vm.stopPrank();
        assertEq(paid, asked < amount ? asked : amount);
        assertEq(token.balanceOf(payer), paid);
        _assertLedgers();
    }

    function test_withdraw__without_a_start_or_twice__reverts() public {
        _deposit(1 ether);
        vm.startPrank(payer);
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.withdraw();
        escrow.startWithdrawal(1 ether);
        skip(600);
        escrow.withdraw();
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.withdraw();
        escrow.startWithdrawal(1 ether);
        skip(600);
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.withdraw();
        vm.stopPrank();
    }

    function test_withdraw__what_is_reserved__stays() public {
        _fundPayer(10 ether);
        vm.startPrank(payer);
        escrow.startWithdrawal(10 ether);
        skip(600);
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.withdraw();
        vm.stopPrank();
        (uint256 fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 10 ether);
    }
}
