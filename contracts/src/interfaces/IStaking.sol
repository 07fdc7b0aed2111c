// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Stake of providers and verifiers
/// @notice Stake stays slashable through the whole of unbonding. What is frozen for a dispute cannot leave.
/// @dev Assumptions: FUNC is a plain ERC-20 without hooks; `unbondingPeriod` exceeds the challenge, dispute and verdict windows together.
interface IStaking {
    /// @param active stake that counts
    /// @param unbonding stake on its way out, still slashable
    /// @param frozen part of active + unbonding that open disputes hold
    struct Account {
        uint128 active;
        uint128 unbonding;
        uint128 frozen;
        uint128 slashed;
    }

    struct Unbonding {
        uint128 amount;
        uint64 releaseAt;
    }

    error ZeroAmount();
    error InsufficientStake(uint256 has, uint256 needs);
    error TooManyUnbondings(uint256 limit);
    error NothingToWithdraw();

    event Staked(uint64 sequence, address indexed account, address indexed from, uint256 amount, uint256 active);
    event UnbondingStarted(uint64 sequence, address indexed account, uint256 amount, uint64 releaseAt, uint256 active);
    event Withdrawn(uint64 sequence, address indexed account, uint256 amount, uint256 unbonding);
    event FrozenChanged(uint64 sequence, address indexed account, uint256 frozen);
    event Slashed(
        uint64 sequence,
        address indexed account,
        address indexed beneficiary,
        uint256 amount,
        uint256 awarded,
        uint256 burned,
        uint256 remaining
    );

    /// @notice Adds to `account`'s stake from the caller's tokens. Staking for another only ever adds.
    function stake(address account, uint128 amount) external;

    /// @notice Moves the caller's active stake to unbonding. Reverts with InsufficientStake past the active stake.
    function beginUnbonding(uint128 amount) external;

    /// @notice Pays out the caller's unbondings whose time has come, as far as nothing frozen leaves.
    function withdraw() external returns (uint256 amount);

    /// @notice Holds `amount` more of `account`'s stake; capped at what is slashable. Returns what was added. Disputes only.
    function freeze(address account, uint128 amount) external returns (uint128 added);

    /// @notice Lets go of frozen stake. Disputes only.
    function unfreeze(address account, uint128 amount) external;

    /// @notice Takes stake: active first, then unbonding from the newest. `beneficiaryBps` of it, rounded down, goes to `beneficiary`, the rest is
    /// burned. Disputes only.
    function slash(address account, uint128 amount, address beneficiary, uint16 beneficiaryBps) external returns (uint128 taken);

    function accountOf(address account) external view returns (Account memory);

    /// @notice Active stake, the number that minimums are compared with.
    function stakeOf(address account) external view returns (uint256);

    /// @notice Active and unbonding stake together.
    function slashable(address account) external view returns (uint256);

    /// @notice What the contract owes, which must equal its token balance.
    function ledger() external view returns (uint256);
}
