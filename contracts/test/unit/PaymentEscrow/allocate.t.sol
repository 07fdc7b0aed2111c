// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowAllocate is Network {
    function test_allocate__never_above_the_bond() public {
        _bond(50 ether, 30 ether);
        vm.prank(gateway);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.InsufficientBalance.selector, 50 ether, 51 ether));
        escrow.allocate(payer, 21 ether);
        vm.prank(gateway);
        escrow.allocate(payer, 20 ether);
        assertEq(escrow.bondOf(gateway).allocated, 50 ether);
    }

    function test_allocate__lower__takes_two_calls_a_thaw_apart() public {
        _bond(50 ether, 30 ether);
        vm.startPrank(gateway);
        escrow.allocate(owner, 10 ether);
        assertEq(escrow.allocationOf(gateway, owner), 30 ether);
        uint64 until = uint64(block.timestamp) + 600;
        assertEq(escrow.loweredUntil(gateway, owner), until);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.StillThawing.selector, until));
        escrow.allocate(owner, 10 ether);
        skip(600);
        escrow.allocate(owner, 10 ether);
        vm.stopPrank();
        assertEq(escrow.allocationOf(gateway, owner), 10 ether);
        assertEq(escrow.bondOf(gateway).allocated, 10 ether);
    }
}
