// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowDebit is Network {
    function _debit(uint96 amount) private returns (uint96) {
        vm.prank(address(settlement));
        return escrow.debit(payer, gateway, owner, modelId, amount);
    }

    function testFuzz_debit__takes_what_available_says(
        uint96 deposit,
        uint88 limit,
        uint96 later,
        uint96 bond,
        uint96 first,
        uint96 second,
        uint32 wait
    ) public {
        deposit = uint96(bound(deposit, 1, 1_000 ether));
        limit = uint88(bound(limit, 1, 1_000 ether));
        later = uint96(bound(later, 1, 1_000 ether));
        bond = uint96(bound(bond, 1, 1_000 ether));
        wait = uint32(bound(wait, 0, 20 days));
        _bond(bond, bond);
        token.approve(address(escrow), uint256(deposit) + later);
        escrow.deposit(payer, deposit);
        vm.prank(payer);
        escrow.setLimit(gateway, limit, 1 days, uint64(block.timestamp + 10 days), new bytes32[](0));
        escrow.deposit(payer, later);
        for (uint256 i; i < 2; ++i) {
            uint96 wanted = uint96(bound(i == 0 ? first : second, 1, 4_000 ether));
            (uint256 fromPayer, uint256 fromBond) = escrow.available(payer, gateway, owner, modelId);
            uint96 taken = _debit(wanted);
            assertEq(taken, wanted < fromPayer + fromBond ? wanted : fromPayer + fromBond);
            (, uint256 bondLeft) = escrow.available(payer, gateway, owner, modelId);
            assertEq(fromBond - bondLeft, taken > fromPayer ? taken - fromPayer : 0);
            skip(wait);
        }
        _assertLedgers();
    }

    function testFuzz_debit__never_more_than_the_limit_a_period(uint96[6] memory amounts) public {
        token.approve(address(escrow), 1_000 ether);
        escrow.deposit(payer, 1_000 ether);
        vm.prank(payer);
        escrow.setLimit(gateway, 10 ether, 1 days, uint64(block.timestamp + 10 days), new bytes32[](0));
        uint256 spent;
        for (uint256 i; i < 6; ++i) {
            spent += _debit(uint96(bound(amounts[i], 1, 8 ether)));
        }
        assertLe(spent, 10 ether);
        skip(1 days);
        assertEq(_debit(20 ether), 10 ether);
        skip(3 days + 5);
        assertEq(_debit(20 ether), 10 ether);
        assertEq(escrow.limitOf(payer, gateway).periodEnd, 1_000_000 + 5 days);
    }

    function test_debit__room_of_a_period__is_taken_once() public {
        token.approve(address(escrow), 100 ether);
        escrow.deposit(payer, 1 ether);
        vm.prank(payer);
        escrow.setLimit(gateway, 10 ether, 1 days, uint64(block.timestamp + 10 days), new bytes32[](0));
        escrow.deposit(payer, 50 ether);
        assertEq(_debit(6 ether), 6 ether);
        assertEq(_debit(6 ether), 4 ether);
        assertEq(_debit(6 ether), 0);
        assertEq(escrow.depositOf(payer).balance, 41 ether);
    }

    function test_debit__from_the_bond__spends_it() public {
        _bond(50 ether, 30 ether);
        assertEq(_debit(20 ether), 20 ether);
        assertEq(_debit(20 ether), 10 ether);
        assertEq(escrow.bondOf(gateway).balance, 20 ether);
        assertEq(escrow.bondOf(gateway).allocated, 0);
        assertEq(escrow.allocationOf(gateway, owner), 0);
    }

    function test_debit__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.NotAllowed.selector, address(this)));
        escrow.debit(payer, gateway, owner, modelId, 1);
    }
}
