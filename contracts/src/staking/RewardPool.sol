// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Ledgered} from "../access/Sequenced.sol";
import {IRewardPool} from "../interfaces/IRewardPool.sol";
import {IStaking} from "../interfaces/IStaking.sol";
import {SplitLib} from "../libraries/SplitLib.sol";
import {FuncToken} from "../token/FuncToken.sol";

/// @notice Documented in IRewardPool.
contract RewardPool is IRewardPool, Ledgered, AccessManaged {
    using SafeCast for uint256;
    using SafeERC20 for FuncToken;

    uint16 public constant CAP_BPS = 9_000;
    uint96 public constant MAX_EMISSION = 1_000_000 ether;

    FuncToken public immutable token;
    IStaking public immutable staking;
    address public immutable settlement;
    uint64 public immutable genesis;
    uint64 public immutable epochLength;

    /// @notice The most that an epoch emits, in wei.
    uint96 public emission;
    /// @inheritdoc IRewardPool
    uint96 public unallocated;
    mapping(uint64 epoch => Epoch) private _epochs;
    mapping(uint64 epoch => mapping(address provider => uint96)) private _cuts;

    constructor(address authority, FuncToken token_, IStaking staking_, address settlement_, uint64 epochLength_, uint96 emission_)
        AccessManaged(authority)
    {
        token = token_;
        staking = staking_;
        settlement = settlement_;
        genesis = uint64(block.timestamp);
        epochLength = epochLength_;
        _setEmission(emission_);
    }

    /// @inheritdoc IRewardPool
    function fund(uint128 amount) external {
        require(amount != 0, ZeroAmount());
        unallocated += uint256(amount).toUint96();
        _owed += uint96(amount);
        emit Funded(_next(), msg.sender, amount, unallocated);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IRewardPool
    function record(address provider, uint96 cut) external {
        require(msg.sender == settlement, NotAllowed(msg.sender));
        if (cut == 0) return;
        uint64 epoch = currentEpoch();
        uint96 own = _cuts[epoch][provider] += cut;
        uint96 total = _epochs[epoch].cut += cut;
        emit CutRecorded(_next(), provider, epoch, own, total);
    }

    /// @inheritdoc IRewardPool
    function claim(address provider, uint64 epoch) external returns (uint256) {
        require(epoch < currentEpoch(), EpochOpen(epoch));
        uint96 cut = _cuts[epoch][provider];
        require(cut != 0, NothingToClaim(provider, epoch));
        delete _cuts[epoch][provider];
        Epoch memory e = _epochs[epoch];
        if (!e.closed) _close(epoch, e);
        uint96 amount = _rewardDown(cut, e);
        e.cut -= cut;
        e.budget -= amount;
        if (e.cut == 0) {
            // What rounding left goes back to the pool.
            if (e.budget != 0) unallocated += e.budget;
            e.budget = 0;
        }
        _epochs[epoch] = e;
        _owed -= amount;
        uint96 toDelegators = staking.delegatorsShareDown(provider, amount);
        emit RewardClaimed(_next(), provider, epoch, amount, toDelegators);
        if (toDelegators != 0) {
            token.safeTransfer(address(staking), toDelegators);
            staking.creditPool(provider, toDelegators);
        }
        token.safeTransfer(provider, amount - toDelegators);
        return amount;
    }

    /// @inheritdoc IRewardPool
    function setEmission(uint96 emission_) external restricted {
        _setEmission(emission_);
    }

    /// @inheritdoc IRewardPool
    function currentEpoch() public view returns (uint64) {
        return (uint64(block.timestamp) - genesis) / epochLength;
    }

    /// @inheritdoc IRewardPool
    function claimable(address provider, uint64 epoch) external view returns (uint256) {
        uint96 cut = _cuts[epoch][provider];
        if (cut == 0 || epoch >= currentEpoch()) return 0;
        Epoch memory e = _epochs[epoch];
        if (!e.closed) e.budget = _budget(e.cut);
        return _rewardDown(cut, e);
    }

    /// @inheritdoc IRewardPool
    function epochOf(uint64 epoch) external view returns (Epoch memory) {
        return _epochs[epoch];
    }

    /// @inheritdoc IRewardPool
    function cutOf(address provider, uint64 epoch) external view returns (uint96) {
        return _cuts[epoch][provider];
    }

    function _close(uint64 epoch, Epoch memory e) private {
        e.budget = _budget(e.cut);
        e.closed = true;
        unallocated -= e.budget;
        emit EpochClosed(_next(), epoch, e.budget, unallocated);
    }

    function _budget(uint96 cut) private view returns (uint96) {
        return uint96(Math.min(Math.min(emission, unallocated), SplitLib.shareDown(cut, CAP_BPS)));
    }

    /// @dev The provider's part of the budget by its part of the cut, at most the cap of its own cut.
    function _rewardDown(uint96 cut, Epoch memory e) private pure returns (uint96) {
        return uint96(Math.min(uint256(e.budget) * cut / e.cut, SplitLib.shareDown(cut, CAP_BPS)));
    }

    function _setEmission(uint96 emission_) private {
        require(emission_ <= MAX_EMISSION, EmissionTooHigh(emission_, MAX_EMISSION));
        emission = emission_;
        emit EmissionSet(_next(), emission_);
    }
}
