// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputes} from "./IDisputes.sol";

/// @title Who of the judges was there
/// @notice A round that ends without a quorum costs the judges that were absent their pay of the epoch in which it ended. A judge that voted shows its
/// vote here beforehand: votes may have been too few or have differed, and none of that is a voter's fault.
/// @dev Assumptions: whoever is harmed by a missing quorum ends the round soon, so nobody chooses an epoch to an absent judge's liking. A judge in no
/// set of that epoch, or that posts no duties for it, has no pay to lose.
interface IAttendance {
    error NotAllowed(address caller);
    error NotOpen(bytes32 evidenceId);
    error NotSeated(uint256 seat);
    error BadVote(uint256 seat);

    event Attended(uint64 sequence, uint256 indexed disputeId, address indexed judge, IDisputes.Round round, IDisputes.Outcome outcome);
    event RoundLapsed(uint64 sequence, uint256 indexed disputeId, IDisputes.Round round, uint64 epoch, address[] absent);

    /// @notice Enters the vote of the judge at `seat` of the dispute's round, signed as for `Disputes.verdict`, before its deadline. Anybody may.
    function attend(bytes32 evidenceId, uint256 seat, IDisputes.Outcome outcome, bytes calldata signature) external;

    /// @notice Holds the dispute's round, which ends without a quorum, against those that were absent. Disputes only.
    function lapse(uint256 disputeId) external;

    /// @notice Whether `judge` has lost its pay of `epoch`.
    function isDocked(uint64 epoch, address judge) external view returns (bool);

    /// @notice The seats, as bits, whose votes were entered.
    function present(uint256 disputeId, IDisputes.Round round) external view returns (uint112 seats);
}
