// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract SettlementRefund is Network {
    function _order(uint128 amount) private {
        vm.prank(address(disputes));
        settlement.refund(owner, payer, modelId, amount);
    }

    function test_refund__from_what_is_held__returns_the_whole_fee() public {
        _joinAll();
        _redeem(10 ether);
        _order(4 ether);
        assertEq(escrow.depositOf(payer).balance, 4 ether);
        assertEq(settlement.heldOf(owner, modelId), 6 ether);
        assertEq(settlement.releasedOf(owner), 4 ether);
        _assertLedgers();
    }

    function testFuzz_refund__not_all_there__comes_from_the_next_redemptions(uint96 first, uint96 due, uint96 second) public {
        first = uint96(bound(first, 1, 20 ether));
        due = uint96(bound(due, 1, 40 ether));
        second = uint96(bound(second, 1, 20 ether));
        _joinAll();
        _redeem(first);
        _order(due);
        _redeem(uint128(first) + second);
        uint256 redeemed = uint256(first) + second;
        assertEq(escrow.depositOf(payer).balance, redeemed < due ? redeemed : due);
        assertEq(settlement.refundDue(owner, payer, modelId), redeemed < due ? due - redeemed : 0);
        assertEq(settlement.heldOf(owner, modelId), redeemed < due ? 0 : redeemed - due);
        _assertLedgers();
    }

    function test_refund__another_payers_redemption__does_not_pay_it() public {
        _joinAll();
        _order(5 ether);
        address other = makeAddr("other");
        _fund(other, 10 ether);
        vm.startPrank(other);
        token.approve(address(escrow), 10 ether);
        escrow.deposit(other, 10 ether);
        escrow.setLimit(gateway, 10 ether, 1 days, uint64(block.timestamp + 1 days), new bytes32[](0));
        vm.stopPrank();
        address first = payer;
        payer = other;
        _redeem(3 ether);
        assertEq(settlement.refundDue(owner, first, modelId), 5 ether);
        assertEq(settlement.heldOf(owner, modelId), 3 ether);
    }

    function test_refund__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotAllowed.selector, address(this)));
        settlement.refund(owner, payer, modelId, 1);
    }
}
