// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";
import {SettlementClaimVerifierPay} from "./claimVerifierPay.t.sol";

abstract contract SettlementForfeit is SettlementClaimVerifierPay {
    /// @dev An epoch with a pot in which judge 2 missed a vote; judges 1 and 2 posted their duties.
    function _lapsed() private returns (uint64 epoch) {
        _joinAll();
        uint64 batchId = _anchor(_receipt(1, 30 ether));
        _redeem(30 ether);
        skip(51);
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        skip(121);
        disputes.escalate(evidenceId);
        bytes memory vote = Bls.sign(2, _ballot(evidenceId, IDisputes.Outcome.Guilty));
        attendance.attend(evidenceId, 1, IDisputes.Outcome.Guilty, vote);
        skip(121);
        disputes.expire(claim);
        epoch = verifiers.currentEpoch();
        assertTrue(attendance.isDocked(epoch, judges[2]));
        _release(batchId);
        skip(10);
        _post(1, epoch);
        _post(2, epoch);
    }

    function test_forfeit__a_missed_vote__moves_the_share_to_the_next_pot_once() public {
        uint64 epoch = _lapsed();
        vm.expectRevert(abi.encodeWithSelector(ISettlement.EpochOpen.selector, epoch));
        settlement.forfeit(epoch, judges[2]);
        skip(40);
        uint256 share = settlement.pot(epoch) / 2;
        assertGt(share, 0);
        vm.prank(judges[2]);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.Docked.selector, judges[2], epoch));
        settlement.claimVerifierPay(epoch);
        uint64 current = verifiers.currentEpoch();
        uint256 before = settlement.pot(current);
        assertEq(settlement.forfeit(epoch, judges[2]), share);
        assertEq(settlement.pot(current), before + share);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.AlreadyClaimed.selector, judges[2], epoch));
        settlement.forfeit(epoch, judges[2]);
        vm.prank(judges[1]);
        assertEq(settlement.claimVerifierPay(epoch), share);
        _assertLedgers();
    }

    function test_forfeit__of_who_voted__reverts() public {
        uint64 epoch = _lapsed();
        skip(40);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotDocked.selector, judges[1], epoch));
        settlement.forfeit(epoch, judges[1]);
    }
}
