// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LibBit} from "solady/utils/LibBit.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {IAttendance} from "../interfaces/IAttendance.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";

/// @notice Documented in IAttendance.
contract Attendance is IAttendance, Sequenced {
    bytes32 public constant VERDICT_PURPOSE = "VERDICT";

    IDisputes public immutable disputes;
    IVerifierSet public immutable verifiers;

    /// @inheritdoc IAttendance
    mapping(uint256 disputeId => mapping(IDisputes.Round => uint112)) public present;
    /// @inheritdoc IAttendance
    mapping(uint64 epoch => mapping(address judge => bool)) public isDocked;

    constructor(IDisputes disputes_, IVerifierSet verifiers_) {
        disputes = disputes_;
        verifiers = verifiers_;
    }

    /// @inheritdoc IAttendance
    function attend(bytes32 evidenceId, uint256 seat, IDisputes.Outcome outcome, bytes calldata signature) external {
        (uint256 disputeId,,) = disputes.evidence(evidenceId);
        require(disputeId != 0, NotOpen(evidenceId));
        IDisputes.Dispute memory d = disputes.dispute(disputeId);
        require(d.status == IDisputes.Status.Open && block.timestamp <= d.deadline, NotOpen(evidenceId));
        IVerifierSet.Panel memory panel = _panel(d);
        require(seat < 112 && panel.seats >> seat & 1 == 1, NotSeated(seat));
        bytes32 payload = disputes.verdictPayload(disputeId, evidenceId, d.round, outcome);
        bool signed = verifiers.verifySeat(VERDICT_PURPOSE, address(disputes), d.epoch, payload, seat, signature);
        require(signed && outcome != IDisputes.Outcome.None, BadVote(seat));
        present[disputeId][d.round] |= uint112(1) << uint112(seat);
        (address judge,) = verifiers.seatAt(panel.setId, seat);
        emit Attended(_next(), disputeId, judge, d.round, outcome);
    }

    /// @inheritdoc IAttendance
    function lapse(uint256 disputeId) external {
        require(msg.sender == address(disputes), NotAllowed(msg.sender));
        IDisputes.Dispute memory d = disputes.dispute(disputeId);
        IVerifierSet.Panel memory panel = _panel(d);
        uint112 seats = panel.seats & ~present[disputeId][d.round];
        uint64 epoch = verifiers.currentEpoch();
        address[] memory absent = new address[](LibBit.popCount(seats));
        for (uint256 i; i < absent.length; ++i) {
            (absent[i],) = verifiers.seatAt(panel.setId, LibBit.ffs(seats));
            seats &= seats - 1;
            isDocked[epoch][absent[i]] = true;
        }
        emit RoundLapsed(_next(), disputeId, d.round, epoch, absent);
    }

    function _panel(IDisputes.Dispute memory d) private view returns (IVerifierSet.Panel memory) {
        return
            d.round == IDisputes.Round.Committee
                ? verifiers.committeePanel(d.epoch, d.challenger)
                : verifiers.fullPanel(d.epoch, d.challenger);
    }
}
