// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Stake of providers and verifiers, and what others delegate to them
/// @notice Stake stays slashable through the whole of unbonding. While a dispute holds an account, nothing that its slash could take leaves.
/// @dev Assumptions: FUNC is a plain ERC-20 without hooks; `unbondingPeriod` exceeds commitment lag, challenge, verdicts and appeal together and a
/// day; Disputes closes each dispute in bounded time. A slash takes the account's own stake first, active before unbonding, then the pool pro rata
/// to what is delegated and what is unbonding from it. Delegators' earnings raise the price of their shares: there is no checkpoint to reset.
interface IStaking {
    /// @param active own stake that counts
    /// @param frozen what open disputes hold of everything slashable
    /// @param frozenSince when the oldest of the open disputes began; what unbonded before is out of reach
    /// @param holds open disputes
    struct Account {
        uint96 active;
        uint96 frozen;
        uint32 frozenSince;
        uint32 holds;
    }

    /// @param delegated tokens that count, by all delegators
    /// @param lastBucket the newest bucket in which anything of the account unbonds
    struct Pool {
        uint112 shares;
        uint96 delegated;
        uint16 commissionBps;
        uint32 lastBucket;
    }

    /// @param bucket ends, and its stake is free, at `releaseAt`
    struct Unbonding {
        uint32 bucket;
        uint96 amount;
        uint64 releaseAt;
    }

    /// @param awarded to the beneficiary, the rest is burned
    /// @param fromPool how much of it delegators bear
    /// @param remaining what is slashable after it
    struct Slash {
        uint256 amount;
        uint256 awarded;
        uint256 fromPool;
        uint256 active;
        uint256 delegated;
        uint256 remaining;
    }

    error ZeroAmount();
    error NotAllowed(address caller);
    error InsufficientStake(uint256 has, uint256 needs);
    error BelowMinimumDelegation(uint256 amount, uint256 minimum);
    error FeesInFlight(uint256 lockedStake);
    error CommissionTooHigh(uint16 bps);
    error StillUnbonding(uint32 bucket, uint64 releaseAt);
    error NothingToWithdraw();

    event Staked(uint64 sequence, address indexed account, address indexed from, uint256 amount, uint256 active);
    event Delegated(uint64 sequence, address indexed account, address indexed delegator, uint256 amount, uint256 shares, uint256 delegated);
    event UnbondingStarted(
        uint64 sequence, address indexed account, address indexed delegator, uint256 amount, uint32 bucket, uint64 releaseAt, uint256 active
    );
    event Withdrawn(uint64 sequence, address indexed account, address indexed delegator, uint256 amount);
    event PoolEarned(uint64 sequence, address indexed account, uint256 amount, uint256 delegated);
    event CommissionSet(uint64 sequence, address indexed account, uint16 bps, uint64 from);
    event FrozenChanged(uint64 sequence, address indexed account, uint256 frozen, uint32 holds);
    event Slashed(uint64 sequence, address indexed account, address indexed beneficiary, Slash slash);
    event Burned(uint64 sequence, uint256 amount);

    /// @notice Adds to `account`'s own stake from the caller's tokens. Staking for another only ever adds.
    function stake(address account, uint128 amount) external;

    /// @notice Delegates to `account`, at least MINIMUM_DELEGATION, for shares of its pool, rounded down.
    function delegate(address account, uint128 amount) external returns (uint256 shares);

    /// @notice Moves the caller's own active stake to unbonding. What is left must cover the fees of batches still in their window.
    function beginUnbonding(uint128 amount) external;

    /// @notice Moves what the caller's shares of `account`'s pool are worth now, rounded down, to unbonding.
    function undelegate(address account, uint128 shares) external returns (uint256 amount);

    /// @notice Pays out the caller's own stake in the given buckets, each of which must have ended. The caller chooses how many.
    function withdraw(uint32[] calldata buckets) external returns (uint256 amount);

    /// @notice Pays out what the caller undelegated from `account` in the given buckets, less what was slashed of it meanwhile.
    function withdrawDelegation(address account, uint32[] calldata buckets) external returns (uint256 amount);

    /// @notice The caller's part of what its delegators earn. A raise takes effect after the unbonding period, so they can leave first.
    function setCommission(uint16 bps) external;

    /// @notice Books `amount`, which the caller has just transferred, to the delegators of `account`. Settlement and RewardPool only.
    function creditPool(address account, uint96 amount) external;

    /// @notice Opens a hold and freezes up to `amount` of what is slashable and not frozen yet. Returns what was frozen. Disputes only.
    function freeze(address account, uint96 amount) external returns (uint96 added);

    /// @notice Closes a hold and lets go of what it froze. Disputes only.
    function unfreeze(address account, uint96 amount) external;

    /// @notice Takes up to `amount`; `beneficiaryBps` of it, rounded down, goes to `beneficiary`, the rest is burned. Disputes and Plants only.
    function slash(address account, uint96 amount, address beneficiary, uint16 beneficiaryBps) external returns (uint96 taken);

    /// @notice Burns what slashes have left to burn. Anybody may.
    function burn() external;

    function accountOf(address account) external view returns (Account memory);

    function poolOf(address account) external view returns (Pool memory);

    /// @notice Own active stake, the number that minimums are compared with.
    function stakeOf(address account) external view returns (uint256);

    /// @notice Everything that a slash could take now: own and delegated stake, active and unbonding.
    function slashable(address account) external view returns (uint256);

    /// @notice The delegators' part of `amount` that `account` earned: by stake, less its commission, rounded down. Zero with an empty pool.
    function delegatorsShareDown(address account, uint256 amount) external view returns (uint96);

    function commissionOf(address account) external view returns (uint16);

    function sharesOf(address account, address delegator) external view returns (uint256);

    /// @notice What `delegator`'s shares are worth now, rounded down.
    function delegationOf(address account, address delegator) external view returns (uint256);

    /// @notice What `delegator`, or the account itself, has unbonding in the newest `count` buckets of the account.
    function unbondingsOf(address account, address delegator, uint256 count) external view returns (Unbonding[] memory);

    function openDisputes(address account) external view returns (uint256);
}
