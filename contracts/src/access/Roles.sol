// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The AccessManager's role numbers. Role 0, its administrator, is the timelock's.
library Roles {
    /// @dev Only Disputes: may freeze and slash stake, jail providers and order refunds.
    uint64 internal constant DISPUTES = 1;
    /// @dev Only Settlement: may debit the escrow and credit refunds to it.
    uint64 internal constant SETTLEMENT = 2;
}
