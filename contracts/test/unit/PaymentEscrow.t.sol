// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentEscrow} from "../../src/interfaces/IPaymentEscrow.sol";
import {Network} from "../utils/Network.t.sol";

contract PaymentEscrowTest is Network {
    function testFuzz_deposit__for_another__only_adds(uint128 amount) public {
        amount = uint128(bound(amount, 1, 1e27));
        token.approve(address(escrow), amount);
        escrow.deposit(payer, amount);
        assertEq(escrow.depositOf(payer).balance, amount);
        _assertLedgers();
    }

    function test_deposit__zero__reverts() public {
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.deposit(payer, 0);
    }

    function test_depositWithPermit__signed__deposits_without_approval() public {
        (address signer, uint256 key) = makeAddrAndKey("permit");
        _fund(signer, 10);
        bytes32 typehash = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 body = keccak256(abi.encode(typehash, signer, address(escrow), 10, 0, block.timestamp));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), body)));
        vm.prank(signer);
        escrow.depositWithPermit(10, block.timestamp, v, r, s);
        assertEq(escrow.depositOf(signer).balance, 10);
    }

    function test_withdraw__before_the_thaw__reverts() public {
        _fundPayer(100);
        vm.startPrank(payer);
        escrow.startWithdrawal(60);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.StillThawing.selector, block.timestamp + 600));
        escrow.withdraw();
    }

    function test_withdraw__debited_meanwhile__pays_what_is_left() public {
        _fundPayer(100);
        vm.prank(payer);
        escrow.startWithdrawal(100);
        vm.prank(address(settlement));
        escrow.debit(payer, gateway, owner, 0, 70);
        skip(600);
        vm.prank(payer);
        assertEq(escrow.withdraw(), 30);
    }

    function test_startWithdrawal__more_than_the_balance__reverts() public {
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.InsufficientBalance.selector, 0, 1));
        escrow.startWithdrawal(1);
    }

    function test_setLimit__lowered_in_place__reverts() public {
        _fundPayer(100);
        vm.prank(payer);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 50, 1 days, uint64(block.timestamp + 365 days), new bytes32[](0));
    }

    function test_setLimit__expiry_that_would_overflow__reverts() public {
        vm.prank(payer);
        vm.expectRevert(IPaymentEscrow.BadLimit.selector);
        escrow.setLimit(gateway, 1, 1 days, type(uint64).max, new bytes32[](0));
    }

    function test_revokeLimit__holds_through_the_thaw_then_ends() public {
        _fundPayer(100);
        vm.prank(payer);
        escrow.revokeLimit(gateway);
        (uint256 fromPayer,) = escrow.available(payer, gateway, owner, 0);
        assertEq(fromPayer, 100);
        skip(600);
        (fromPayer,) = escrow.available(payer, gateway, owner, 0);
        assertEq(fromPayer, 0);
    }

    function test_revokeLimit__none_set__reverts() public {
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.NoLimit.selector, payer, gateway));
        escrow.revokeLimit(gateway);
    }

    function test_available__model_not_listed__is_zero() public {
        bytes32[] memory list = new bytes32[](1);
        list[0] = "a";
        _fund(payer, 100);
        vm.startPrank(payer);
        token.approve(address(escrow), 100);
        escrow.deposit(payer, 100);
        escrow.setLimit(gateway, 100, 1 days, uint64(block.timestamp + 1 days), list);
        (uint256 listed,) = escrow.available(payer, gateway, owner, "a");
        (uint256 other,) = escrow.available(payer, gateway, owner, "b");
        assertEq(listed, 100);
        assertEq(other, 0);
    }

    function test_debit__period_passed__counts_anew() public {
        _fund(payer, 100);
        vm.startPrank(payer);
        token.approve(address(escrow), 100);
        escrow.deposit(payer, 100);
        escrow.setLimit(gateway, 40, 1 days, uint64(block.timestamp + 10 days), new bytes32[](0));
        vm.stopPrank();
        vm.startPrank(address(settlement));
        (uint128 first,) = escrow.debit(payer, gateway, owner, 0, 60);
        assertEq(first, 40);
        skip(1 days);
        (uint128 second,) = escrow.debit(payer, gateway, owner, 0, 30);
        assertEq(second, 30);
    }

    function testFuzz_debit__payer_short__bond_covers_up_to_the_allocation(uint128 balance, uint128 allocation, uint128 amount) public {
        balance = uint128(bound(balance, 1, 1e24));
        allocation = uint128(bound(allocation, 1, 1e24));
        amount = uint128(bound(amount, 1, 3e24));
        _fundPayer(balance);
        _bond(allocation, allocation);
        vm.prank(address(settlement));
        (uint128 fromPayer, uint128 fromBond) = escrow.debit(payer, gateway, owner, 0, amount);
        assertEq(fromPayer, amount < balance ? amount : balance);
        uint128 short = amount - fromPayer;
        assertEq(fromBond, short < allocation ? short : allocation);
        assertEq(escrow.ledger(), token.balanceOf(address(escrow)));
    }

    function test_debit__stranger__is_refused() public {
        vm.prank(payer);
        vm.expectRevert();
        escrow.debit(payer, gateway, owner, 0, 1);
    }

    function test_allocate__beyond_the_bond__reverts() public {
        _bond(100, 60);
        vm.prank(gateway);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.InsufficientBalance.selector, 100, 101));
        escrow.allocate(creator, 41);
    }

    function test_allocate__lowered__waits_for_the_thaw() public {
        _bond(100, 60);
        vm.startPrank(gateway);
        escrow.allocate(owner, 10);
        assertEq(escrow.allocationOf(gateway, owner), 60);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.StillThawing.selector, block.timestamp + 600));
        escrow.allocate(owner, 10);
        skip(600);
        escrow.allocate(owner, 10);
        assertEq(escrow.allocationOf(gateway, owner), 10);
    }

    function test_withdrawBond__only_what_is_free_and_thawed() public {
        _bond(100, 60);
        vm.startPrank(gateway);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.InsufficientBalance.selector, 40, 41));
        escrow.startBondWithdrawal(41);
        escrow.startBondWithdrawal(40);
        skip(600);
        assertEq(escrow.withdrawBond(), 40);
        _assertLedgers();
    }
}
