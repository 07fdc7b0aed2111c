// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Guarded} from "../access/Guarded.sol";
import {Ledgered} from "../access/Sequenced.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IStaking} from "../interfaces/IStaking.sol";
import {ShareMath} from "../libraries/ShareMath.sol";
import {SplitLib} from "../libraries/SplitLib.sol";
import {ThawLib} from "../libraries/ThawLib.sol";
import {FuncToken} from "../token/FuncToken.sol";

/// @notice Documented in IStaking.
contract Staking is IStaking, Ledgered, Guarded {
    using SafeCast for uint256;
    using SafeERC20 for FuncToken;

    uint16 public constant MAX_COMMISSION_BPS = 5_000;
    uint256 public constant MINIMUM_DELEGATION = 1 ether;
    /// @notice Buckets an unbonding period is divided into: a slash walks at most two more.
    uint64 public constant BUCKETS = 8;

    /// @notice The contracts that may move stake, besides its owners.
    struct Wiring {
        FuncToken token;
        ICommitmentLog log;
        address disputes;
        address settlement;
        address rewards;
        address plants;
    }

    /// @dev What unbonds from a pool in one bucket.
    struct Bucket {
        uint128 shares;
        uint96 tokens;
    }

    /// @dev A raise of the commission on its way.
    struct Raise {
        uint16 bps;
        uint64 from;
    }

    FuncToken public immutable token;
    ICommitmentLog public immutable log;
    address public immutable disputes;
    address public immutable settlement;
    address public immutable rewards;
    address public immutable plants;
    uint64 public immutable unbondingPeriod;
    uint64 public immutable bucketWidth;

    mapping(address account => Account) private _accounts;
    mapping(address account => Pool) private _pools;
    mapping(address account => Raise) private _raises;
    mapping(address account => mapping(uint32 bucket => uint96)) private _own;
    mapping(address account => mapping(uint32 bucket => Bucket)) private _buckets;
    mapping(address account => mapping(address delegator => uint112)) private _shares;
    mapping(address account => mapping(address delegator => mapping(uint32 bucket => uint128))) private _unbonding;

    modifier only(address allowed) {
        require(msg.sender == allowed, NotAllowed(msg.sender));
        _;
    }

    constructor(address authority, Wiring memory w, uint64 unbondingPeriod_) AccessManaged(authority) {
        token = w.token;
        log = w.log;
        disputes = w.disputes;
        settlement = w.settlement;
        rewards = w.rewards;
        plants = w.plants;
        unbondingPeriod = unbondingPeriod_;
        bucketWidth = (unbondingPeriod_ + BUCKETS - 1) / BUCKETS;
    }

    /// @inheritdoc IStaking
    function stake(address account, uint128 amount) external whenOpen {
        require(amount != 0, ZeroAmount());
        uint96 active = _accounts[account].active += uint256(amount).toUint96();
        _owed += uint96(amount);
        emit Staked(_next(), account, msg.sender, amount, active);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IStaking
    function delegate(address account, uint128 amount) external whenOpen returns (uint256 shares) {
        // One's own stake is borne first by `stake`; in one's own pool it would hide behind others'.
        require(account != msg.sender, NotAllowed(msg.sender));
        require(amount >= MINIMUM_DELEGATION, BelowMinimumDelegation(amount, MINIMUM_DELEGATION));
        Pool storage p = _pools[account];
        (uint96 delegated, uint112 issued) = (p.delegated, p.shares);
        shares = ShareMath.toSharesDown(amount, delegated, issued);
        (p.delegated, p.shares) = (delegated + uint256(amount).toUint96(), issued + shares.toUint112());
        _shares[account][msg.sender] += uint112(shares);
        _owed += uint96(amount);
        emit Delegated(_next(), account, msg.sender, amount, shares, delegated + amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IStaking
    function beginUnbonding(uint128 amount) external {
        require(amount != 0, ZeroAmount());
        Account storage a = _accounts[msg.sender];
        uint96 active = a.active;
        require(active >= amount, InsufficientStake(active, amount));
        active -= uint96(amount);
        uint256 inFlight = log.inFlight(msg.sender);
        require(active >= inFlight, FeesInFlight(inFlight));
        a.active = active;
        uint32 bucket = _currentBucket();
        _own[msg.sender][bucket] += uint96(amount);
        _pools[msg.sender].lastBucket = bucket;
        emit UnbondingStarted(_next(), msg.sender, msg.sender, amount, bucket, _endOf(bucket), active);
    }

    /// @inheritdoc IStaking
    function undelegate(address account, uint128 shares) external returns (uint256 amount) {
        uint112 has = _shares[account][msg.sender];
        require(shares != 0 && has >= shares, InsufficientStake(has, shares));
        Pool memory p = _pools[account];
        amount = ShareMath.toTokensDown(shares, p.delegated, p.shares);
        // Shares are given up only for something: a wiped pool has nothing to give.
        require(amount != 0, ZeroAmount());
        uint32 bucket = _currentBucket();
        p.delegated -= uint96(amount);
        p.shares -= uint112(shares);
        p.lastBucket = bucket;
        _pools[account] = p;
        _shares[account][msg.sender] = has - uint112(shares);
        Bucket memory b = _buckets[account][bucket];
        uint128 bucketShares = ShareMath.toSharesDown(amount, b.tokens, b.shares).toUint128();
        _buckets[account][bucket] = Bucket(b.shares + bucketShares, b.tokens + uint96(amount));
        _unbonding[account][msg.sender][bucket] += bucketShares;
        emit UnbondingStarted(_next(), account, msg.sender, amount, bucket, _endOf(bucket), p.delegated);
    }

    /// @inheritdoc IStaking
    function withdraw(uint32[] calldata buckets) external returns (uint256 amount) {
        uint256 asOf = _reach(msg.sender);
        for (uint256 i; i < buckets.length; ++i) {
            _requireEnded(buckets[i], asOf);
            amount += _own[msg.sender][buckets[i]];
            delete _own[msg.sender][buckets[i]];
        }
        _payOut(msg.sender, amount);
    }

    /// @inheritdoc IStaking
    function withdrawDelegation(address account, uint32[] calldata buckets) external returns (uint256 amount) {
        uint256 asOf = _reach(account);
        for (uint256 i; i < buckets.length; ++i) {
            _requireEnded(buckets[i], asOf);
            uint128 shares = _unbonding[account][msg.sender][buckets[i]];
            if (shares == 0) continue;
            delete _unbonding[account][msg.sender][buckets[i]];
            Bucket memory b = _buckets[account][buckets[i]];
            uint96 part = uint96(ShareMath.toTokensDown(shares, b.tokens, b.shares));
            _buckets[account][buckets[i]] = Bucket(b.shares - shares, b.tokens - part);
            amount += part;
        }
        _payOut(account, amount);
    }

    /// @inheritdoc IStaking
    function setCommission(uint16 bps) external {
        require(bps <= MAX_COMMISSION_BPS, CommissionTooHigh(bps));
        uint16 now_ = commissionOf(msg.sender);
        uint64 from = uint64(block.timestamp) + (bps > now_ ? unbondingPeriod : 0);
        _pools[msg.sender].commissionBps = now_;
        _raises[msg.sender] = Raise(bps, from);
        emit CommissionSet(_next(), msg.sender, bps, from);
    }

    /// @inheritdoc IStaking
    function creditPool(address account, uint96 amount) external {
        require(msg.sender == settlement || msg.sender == rewards, NotAllowed(msg.sender));
        uint96 delegated = _pools[account].delegated += amount;
        _owed += amount;
        emit PoolEarned(_next(), account, amount, delegated);
    }

    /// @inheritdoc IStaking
    function freeze(address account, uint96 amount) external only(disputes) returns (uint96 added) {
        Account memory a = _accounts[account];
        if (a.holds++ == 0) a.frozenSince = uint32(block.timestamp);
        added = uint96(Math.min(amount, slashable(account) - a.frozen));
        a.frozen += added;
        _accounts[account] = a;
        emit FrozenChanged(_next(), account, a.frozen, a.holds);
    }

    /// @inheritdoc IStaking
    function unfreeze(address account, uint96 amount) external only(disputes) {
        Account memory a = _accounts[account];
        // A slash has let go of what it took.
        a.frozen -= uint96(Math.min(amount, a.frozen));
        if (--a.holds == 0) (a.frozen, a.frozenSince) = (0, 0);
        _accounts[account] = a;
        emit FrozenChanged(_next(), account, a.frozen, a.holds);
    }

    /// @inheritdoc IStaking
    function slash(address account, uint96 amount, address beneficiary, uint16 beneficiaryBps) external returns (uint96 taken) {
        require(msg.sender == disputes || msg.sender == plants, NotAllowed(msg.sender));
        Slash memory s;
        uint96 left = _slashOwn(account, amount);
        s.fromPool = _slashPool(account, left);
        taken = amount - left + uint96(s.fromPool);
        uint96 awarded = SplitLib.shareDown(taken, beneficiaryBps);
        (s.amount, s.awarded, s.remaining) = (taken, awarded, slashable(account));
        (s.active, s.delegated) = (_accounts[account].active, _pools[account].delegated);
        // What other disputes hold can be no more than what is left.
        if (_accounts[account].frozen > s.remaining) _accounts[account].frozen = uint96(s.remaining);
        _owed -= taken;
        _toBurn += taken - awarded;
        emit Slashed(_next(), account, beneficiary, s);
        token.safeTransfer(beneficiary, awarded);
    }

    /// @inheritdoc IStaking
    function burn() external {
        uint96 amount = _toBurn;
        require(amount != 0, ZeroAmount());
        _toBurn = 0;
        emit Burned(_next(), amount);
        token.burn(amount);
    }

    /// @inheritdoc IStaking
    function accountOf(address account) external view returns (Account memory) {
        return _accounts[account];
    }

    /// @inheritdoc IStaking
    function poolOf(address account) external view returns (Pool memory) {
        return _pools[account];
    }

    /// @inheritdoc IStaking
    function stakeOf(address account) external view returns (uint256) {
        return _accounts[account].active;
    }

    /// @inheritdoc IStaking
    function openDisputes(address account) external view returns (uint256) {
        return _accounts[account].holds;
    }

    /// @inheritdoc IStaking
    function slashable(address account) public view returns (uint256 total) {
        Pool memory p = _pools[account];
        total = uint256(_accounts[account].active) + p.delegated;
        for (uint32 b = _firstLive(account); b <= p.lastBucket; ++b) {
            total += uint256(_own[account][b]) + _buckets[account][b].tokens;
        }
    }

    /// @inheritdoc IStaking
    function delegatorsShareDown(address account, uint256 amount) external view returns (uint96) {
        uint256 delegated = _pools[account].delegated;
        if (delegated == 0) return 0;
        uint256 gross = Math.mulDiv(amount, delegated, delegated + _accounts[account].active);
        return (gross * (10_000 - commissionOf(account)) / 10_000).toUint96();
    }

    /// @inheritdoc IStaking
    function commissionOf(address account) public view returns (uint16) {
        Raise memory raise = _raises[account];
        return raise.from != 0 && raise.from <= block.timestamp ? raise.bps : _pools[account].commissionBps;
    }

    /// @inheritdoc IStaking
    function sharesOf(address account, address delegator) external view returns (uint256) {
        return _shares[account][delegator];
    }

    /// @inheritdoc IStaking
    function delegationOf(address account, address delegator) external view returns (uint256) {
        return ShareMath.toTokensDown(_shares[account][delegator], _pools[account].delegated, _pools[account].shares);
    }

    /// @inheritdoc IStaking
    function unbondingsOf(address account, address delegator, uint256 count) external view returns (Unbonding[] memory found) {
        uint32 last = _pools[account].lastBucket;
        uint32 first = uint32(Math.saturatingSub(uint256(last) + 1, count));
        found = new Unbonding[](last + 1 - first);
        uint256 n;
        for (uint32 b = first; b <= last; ++b) {
            uint96 amount = _unbondingIn(account, delegator, b);
            if (amount != 0) found[n++] = Unbonding(b, amount, _endOf(b));
        }
        assembly ("memory-safe") {
            mstore(found, n)
        }
    }

    function _unbondingIn(address account, address delegator, uint32 bucket) private view returns (uint96) {
        if (delegator == account) return _own[account][bucket];
        Bucket memory b = _buckets[account][bucket];
        return uint96(ShareMath.toTokensDown(_unbonding[account][delegator][bucket], b.tokens, b.shares));
    }

    /// @dev Takes from own stake, active first, then what unbonds, the oldest live bucket first. Returns what is still to take.
    function _slashOwn(address account, uint96 amount) private returns (uint96 left) {
        Account storage a = _accounts[account];
        uint96 active = a.active;
        uint96 part = uint96(Math.min(amount, active));
        a.active = active - part;
        left = amount - part;
        uint32 last = _pools[account].lastBucket;
        for (uint32 b = _firstLive(account); left != 0 && b <= last; ++b) {
            part = uint96(Math.min(left, _own[account][b]));
            if (part == 0) continue;
            _own[account][b] -= part;
            left -= part;
        }
    }

    /// @dev Takes from the pool, each part of it pro rata: rounded up bucket by bucket, so the parts sum exactly and the active part bears the least.
    function _slashPool(address account, uint96 amount) private returns (uint96 taken) {
        if (amount == 0) return 0;
        Pool storage p = _pools[account];
        uint32 last = p.lastBucket;
        uint256 total = p.delegated;
        for (uint32 b = _firstLive(account); b <= last; ++b) {
            total += _buckets[account][b].tokens;
        }
        taken = uint96(Math.min(amount, total));
        uint256 left = taken;
        for (uint32 b = _firstLive(account); left != 0 && b <= last; ++b) {
            uint96 tokens = _buckets[account][b].tokens;
            uint256 part = Math.mulDiv(tokens, left, total, Math.Rounding.Ceil);
            _buckets[account][b].tokens = tokens - uint96(part);
            left -= part;
            total -= tokens;
        }
        p.delegated -= uint96(left);
    }

    function _payOut(address account, uint256 amount) private {
        require(amount != 0, NothingToWithdraw());
        _owed -= uint96(amount);
        emit Withdrawn(_next(), account, msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// @dev The time by which a bucket must have ended to be out of reach: now, or when the oldest open dispute began.
    function _reach(address account) private view returns (uint256) {
        Account storage a = _accounts[account];
        return a.holds == 0 ? block.timestamp : a.frozenSince;
    }

    function _firstLive(address account) private view returns (uint32) {
        return ThawLib.firstLive(_reach(account), bucketWidth);
    }

    function _currentBucket() private view returns (uint32) {
        return ThawLib.bucketAt(block.timestamp, unbondingPeriod, bucketWidth);
    }

    function _endOf(uint32 bucket) private view returns (uint64) {
        return uint64(bucket) * bucketWidth;
    }

    function _requireEnded(uint32 bucket, uint256 asOf) private view {
        require(_endOf(bucket) <= asOf, StillUnbonding(bucket, _endOf(bucket)));
    }

    function _pausable(bytes4 selector) internal pure override returns (bool) {
        return selector == this.stake.selector || selector == this.delegate.selector;
    }
}
