// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Emission to providers from a pool that was minted beforehand
/// @notice Each epoch's emission is shared by what providers' fees paid to treasury and burn, and is never more than CAP_BPS of it: inventing
/// work always costs more than it earns.
/// @dev Assumptions: Settlement records a cut once, when it releases the fees. What an epoch does not use stays in the pool.
interface IRewardPool {
    /// @param cut of all providers whose reward is not claimed yet
    /// @param budget what is set aside for them
    struct Epoch {
        uint96 cut;
        uint96 budget;
        bool closed;
    }

    error NotAllowed(address caller);
    error ZeroAmount();
    error EpochOpen(uint64 epoch);
    error NothingToClaim(address provider, uint64 epoch);
    error EmissionTooHigh(uint256 emission, uint256 limit);

    event Funded(uint64 sequence, address indexed from, uint256 amount, uint256 unallocated);
    event CutRecorded(uint64 sequence, address indexed provider, uint64 indexed epoch, uint256 cut, uint256 total);
    event EpochClosed(uint64 sequence, uint64 indexed epoch, uint256 budget, uint256 unallocated);
    event RewardClaimed(uint64 sequence, address indexed provider, uint64 indexed epoch, uint256 amount, uint256 toDelegators);
    event EmissionSet(uint64 sequence, uint256 emission);

    /// @notice Adds to the pool from the caller's tokens.
    function fund(uint128 amount) external;

    /// @notice Books what a provider's released fees paid to treasury and burn in the current epoch. Settlement only.
    function record(address provider, uint96 cut) external;

    /// @notice Pays a provider's reward of an ended epoch: to its owner, and to its delegators by their pool. Anybody may call it. Returns all of it.
    function claim(address provider, uint64 epoch) external returns (uint256 amount);

    /// @notice Emission an epoch from the next close on, at most MAX_EMISSION. Governance only.
    function setEmission(uint96 emission) external;

    function currentEpoch() external view returns (uint64);

    /// @notice What `claim` would pay, in wei; zero where there is nothing or the epoch still runs.
    function claimable(address provider, uint64 epoch) external view returns (uint256);

    /// @notice What no epoch has been given yet, in wei.
    function unallocated() external view returns (uint96);

    function epochOf(uint64 epoch) external view returns (Epoch memory);

    function cutOf(address provider, uint64 epoch) external view returns (uint96);
}
