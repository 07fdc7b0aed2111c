// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {IStaking} from "../interfaces/IStaking.sol";
import {FuncToken} from "../token/FuncToken.sol";

/// @notice Documented in IStaking.
contract Staking is IStaking, AccessManaged, Sequenced {
    using SafeERC20 for FuncToken;

    uint256 public constant MAX_UNBONDINGS = 16;

    FuncToken public immutable token;
    uint64 public immutable unbondingPeriod;

    /// @inheritdoc IStaking
    uint256 public ledger;

    mapping(address => Account) private _accounts;
    mapping(address => Unbonding[]) private _unbondings;

    constructor(address authority, FuncToken token_, uint64 unbondingPeriod_) AccessManaged(authority) {
        token = token_;
        unbondingPeriod = unbondingPeriod_;
    }

    /// @inheritdoc IStaking
    function stake(address account, uint128 amount) external {
        require(amount != 0, ZeroAmount());
        uint128 active = _accounts[account].active += amount;
        ledger += amount;
        emit Staked(_next(), account, msg.sender, amount, active);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IStaking
    function beginUnbonding(uint128 amount) external {
        require(amount != 0, ZeroAmount());
        Account storage a = _accounts[msg.sender];
        require(a.active >= amount, InsufficientStake(a.active, amount));
        require(_unbondings[msg.sender].length < MAX_UNBONDINGS, TooManyUnbondings(MAX_UNBONDINGS));
        a.active -= amount;
        a.unbonding += amount;
        uint64 releaseAt = uint64(block.timestamp) + unbondingPeriod;
        _unbondings[msg.sender].push(Unbonding(amount, releaseAt));
        emit UnbondingStarted(_next(), msg.sender, amount, releaseAt, a.active);
    }

    /// @inheritdoc IStaking
    function withdraw() external returns (uint256 amount) {
        Account storage a = _accounts[msg.sender];
        Unbonding[] storage queue = _unbondings[msg.sender];
        uint256 free = uint256(a.active) + a.unbonding - a.frozen;
        uint256 kept;
        for (uint256 i; i < queue.length; ++i) {
            Unbonding memory entry = queue[i];
            uint128 pay = entry.releaseAt <= block.timestamp ? uint128(Math.min(entry.amount, free - amount)) : 0;
            amount += pay;
            entry.amount -= pay;
            if (entry.amount != 0) queue[kept++] = entry;
        }
        while (queue.length > kept) queue.pop();
        require(amount != 0, NothingToWithdraw());
        a.unbonding -= uint128(amount);
        ledger -= amount;
        emit Withdrawn(_next(), msg.sender, amount, a.unbonding);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IStaking
    function freeze(address account, uint128 amount) external restricted returns (uint128 added) {
        Account storage a = _accounts[account];
        added = uint128(Math.min(amount, uint256(a.active) + a.unbonding - a.frozen));
        a.frozen += added;
        emit FrozenChanged(_next(), account, a.frozen);
    }

    /// @inheritdoc IStaking
    function unfreeze(address account, uint128 amount) external restricted {
        uint128 frozen = _accounts[account].frozen -= amount;
        emit FrozenChanged(_next(), account, frozen);
    }

    /// @inheritdoc IStaking
    function slash(address account, uint128 amount, address beneficiary, uint16 beneficiaryBps)
        external
        restricted
        returns (uint128 taken)
    {
        Account storage a = _accounts[account];
        uint128 fromActive = uint128(Math.min(amount, a.active));
        uint128 fromUnbonding = uint128(Math.min(amount - fromActive, a.unbonding));
        taken = fromActive + fromUnbonding;
        a.active -= fromActive;
        a.unbonding -= fromUnbonding;
        a.slashed += taken;
        // What other disputes hold frozen can be no more than what is left.
        a.frozen = uint128(Math.min(a.frozen, uint256(a.active) + a.unbonding));
        _takeFromUnbondings(account, fromUnbonding);
        ledger -= taken;
        uint256 awarded = Math.mulDiv(taken, beneficiaryBps, 10_000, Math.Rounding.Floor);
        emit Slashed(_next(), account, beneficiary, taken, awarded, taken - awarded, uint256(a.active) + a.unbonding);
        token.safeTransfer(beneficiary, awarded);
        token.burn(taken - awarded);
    }

    /// @inheritdoc IStaking
    function accountOf(address account) external view returns (Account memory) {
        return _accounts[account];
    }

    /// @inheritdoc IStaking
    function stakeOf(address account) external view returns (uint256) {
        return _accounts[account].active;
    }

    /// @inheritdoc IStaking
    function slashable(address account) external view returns (uint256) {
        return uint256(_accounts[account].active) + _accounts[account].unbonding;
    }

    function unbondingsOf(address account) external view returns (Unbonding[] memory) {
        return _unbondings[account];
    }

    function _takeFromUnbondings(address account, uint128 amount) private {
        Unbonding[] storage queue = _unbondings[account];
        while (amount != 0) {
            Unbonding storage newest = queue[queue.length - 1];
            uint128 part = uint128(Math.min(amount, newest.amount));
            newest.amount -= part;
            amount -= part;
            if (newest.amount == 0) queue.pop();
        }
    }
}
