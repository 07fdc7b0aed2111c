// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowReclaim is Network {
    function test_reclaim__after_the_limit_ended__returns_the_reserve_once() public {
        _fundPayer(10 ether);
        vm.startPrank(payer);
        escrow.revokeLimit(gateway);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.StillThawing.selector, uint64(block.timestamp) + 600));
        escrow.reclaim(gateway);
        skip(600);
        escrow.reclaim(gateway);
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.reclaim(gateway);
        vm.stopPrank();
        assertEq(escrow.depositOf(payer).balance, 10 ether);
        _assertLedgers();
    }
}
