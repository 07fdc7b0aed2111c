// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The AccessManager's role numbers. Role 0, its administrator, is the timelock's, behind a delay longer than unbonding and thawing.
/// @dev No role moves stake, escrow or withdrawals: the contracts know each other by immutable addresses.
library Roles {
    /// @dev May pause entries, function by function; a pause ends by itself.
    uint64 internal constant GUARDIAN = 1;
    /// @dev The timelock: sets parameters within their bounds and may cancel a slash of a small network.
    uint64 internal constant GOVERNANCE = 2;
    /// @dev May note planted faults, which it pays for: the treasury, and whom governance adds.
    uint64 internal constant PLANTER = 3;
}
