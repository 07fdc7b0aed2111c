// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {IPaymentEscrow} from "../interfaces/IPaymentEscrow.sol";
import {FuncToken} from "../token/FuncToken.sol";

/// @notice Documented in IPaymentEscrow.
contract PaymentEscrow is IPaymentEscrow, AccessManaged, Sequenced {
    using SafeERC20 for FuncToken;

    FuncToken public immutable token;
    uint64 public immutable thawPeriod;

    /// @inheritdoc IPaymentEscrow
    uint256 public ledger;

    mapping(address payer => Deposit) private _deposits;
    mapping(address payer => mapping(address gateway => Limit)) private _limits;
    mapping(bytes32 listedModel => bool) private _allowed;
    mapping(address gateway => Bond) private _bonds;
    mapping(address gateway => mapping(address provider => uint128)) private _allocations;
    /// @dev A lowered allocation still covers its old amount until then, so a gateway cannot pull cover from under a voucher.
    mapping(address gateway => mapping(address provider => uint64)) public loweredUntil;

    constructor(address authority, FuncToken token_, uint64 thawPeriod_) AccessManaged(authority) {
        token = token_;
        thawPeriod = thawPeriod_;
    }

    /// @inheritdoc IPaymentEscrow
    function deposit(address payer, uint128 amount) external {
        _deposit(payer, amount);
    }

    /// @inheritdoc IPaymentEscrow
    function depositWithPermit(uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        // A front-run permit has already set the allowance, so its failure alone is no reason to fail.
        try token.permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _deposit(msg.sender, amount);
    }

    /// @inheritdoc IPaymentEscrow
    function startWithdrawal(uint128 amount) external {
        Deposit storage d = _deposits[msg.sender];
        require(amount != 0, ZeroAmount());
        require(d.balance >= amount, InsufficientBalance(d.balance, amount));
        d.thawing = amount;
        d.thawedAt = uint64(block.timestamp) + thawPeriod;
        emit ThawStarted(_next(), msg.sender, amount, d.thawedAt);
    }

    /// @inheritdoc IPaymentEscrow
    function withdraw() external returns (uint256 amount) {
        Deposit storage d = _deposits[msg.sender];
        amount = Math.min(d.thawing, d.balance);
        require(amount != 0, ZeroAmount());
        require(d.thawedAt <= block.timestamp, StillThawing(d.thawedAt));
        d.thawing = 0;
        d.balance -= uint128(amount);
        ledger -= amount;
        emit Withdrawn(_next(), msg.sender, amount, d.balance);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IPaymentEscrow
    function setLimit(address gateway, uint128 amountPerPeriod, uint64 period, uint64 expiry, bytes32[] calldata models) external {
        // An expiry near the type's end would overflow in `_limitEnd` and fail whole batches of redemptions.
        require(amountPerPeriod != 0 && period != 0 && expiry > block.timestamp && expiry <= type(uint64).max / 2, BadLimit());
        Limit storage limit = _limits[msg.sender][gateway];
        // Lowering or shortening a limit in place would outrun vouchers already signed: revoke, wait, set again.
        bool holds = limit.period != 0 && block.timestamp < _limitEnd(limit);
        require(!holds || (limit.revokedAt == 0 && amountPerPeriod >= limit.amountPerPeriod && expiry >= limit.expiry), BadLimit());
        limit.amountPerPeriod = amountPerPeriod;
        limit.period = period;
        limit.periodStart = uint64(block.timestamp);
        limit.expiry = expiry;
        limit.revokedAt = 0;
        limit.anyModel = models.length == 0;
        ++limit.listVersion;
        for (uint256 i; i < models.length; ++i) {
            _allowed[_listed(msg.sender, gateway, limit.listVersion, models[i])] = true;
        }
        emit LimitSet(_next(), msg.sender, gateway, amountPerPeriod, period, expiry, models);
    }

    /// @inheritdoc IPaymentEscrow
    function revokeLimit(address gateway) external {
        Limit storage limit = _limits[msg.sender][gateway];
        require(limit.period != 0 && limit.revokedAt == 0, NoLimit(msg.sender, gateway));
        limit.revokedAt = uint64(block.timestamp);
        emit LimitRevoked(_next(), msg.sender, gateway, _limitEnd(limit));
    }

    /// @inheritdoc IPaymentEscrow
    function addBond(address gateway, uint128 amount) external {
        require(amount != 0, ZeroAmount());
        uint128 balance = _bonds[gateway].balance += amount;
        ledger += amount;
        emit BondAdded(_next(), gateway, amount, balance);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IPaymentEscrow
    function startBondWithdrawal(uint128 amount) external {
        Bond storage bond = _bonds[msg.sender];
        require(amount != 0, ZeroAmount());
        uint256 free = bond.balance - bond.allocated;
        require(free >= amount, InsufficientBalance(free, amount));
        bond.thawing = amount;
        bond.thawedAt = uint64(block.timestamp) + thawPeriod;
        emit BondThawStarted(_next(), msg.sender, amount, bond.thawedAt);
    }

    /// @inheritdoc IPaymentEscrow
    function withdrawBond() external returns (uint256 amount) {
        Bond storage bond = _bonds[msg.sender];
        amount = bond.thawing;
        require(amount != 0, ZeroAmount());
        require(bond.thawedAt <= block.timestamp, StillThawing(bond.thawedAt));
        bond.thawing = 0;
        bond.balance -= uint128(amount);
        ledger -= amount;
        emit BondWithdrawn(_next(), msg.sender, amount, bond.balance);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IPaymentEscrow
    function allocate(address provider, uint128 amount) external {
        Bond storage bond = _bonds[msg.sender];
        uint128 old = _allocations[msg.sender][provider];
        if (amount < old) {
            // Two calls, a thaw apart: the first announces, the second takes effect.
            uint64 until = loweredUntil[msg.sender][provider];
            if (until == 0) {
                loweredUntil[msg.sender][provider] = uint64(block.timestamp) + thawPeriod;
                emit BondAllocated(_next(), msg.sender, provider, old, bond.allocated);
                return;
            }
            require(until <= block.timestamp, StillThawing(until));
        }
        delete loweredUntil[msg.sender][provider];
        uint256 allocated = uint256(bond.allocated) - old + amount;
        uint256 limit = bond.balance - bond.thawing;
        require(allocated <= limit, InsufficientBalance(limit, allocated));
        bond.allocated = uint128(allocated);
        _allocations[msg.sender][provider] = amount;
        emit BondAllocated(_next(), msg.sender, provider, amount, allocated);
    }

    /// @inheritdoc IPaymentEscrow
    function debit(address payer, address gateway, address provider, bytes32 modelId, uint128 amount)
        external
        restricted
        returns (uint128 fromPayer, uint128 fromBond)
    {
        (uint256 payerHas, uint256 bondHas) = available(payer, gateway, provider, modelId);
        fromPayer = uint128(Math.min(amount, payerHas));
        fromBond = uint128(Math.min(amount - fromPayer, bondHas));
        Deposit storage d = _deposits[payer];
        if (fromPayer != 0) {
            d.balance -= fromPayer;
            Limit storage limit = _limits[payer][gateway];
            uint64 elapsed = (uint64(block.timestamp) - limit.periodStart) / limit.period;
            if (elapsed != 0) {
                limit.periodStart += elapsed * limit.period;
                limit.spentInPeriod = 0;
            }
            limit.spentInPeriod += fromPayer;
        }
        if (fromBond != 0) {
            _bonds[gateway].balance -= fromBond;
            _bonds[gateway].allocated -= fromBond;
            _allocations[gateway][provider] -= fromBond;
        }
        ledger -= uint256(fromPayer) + fromBond;
        emit Debited(_next(), payer, gateway, provider, modelId, fromPayer, fromBond, d.balance);
        token.safeTransfer(msg.sender, uint256(fromPayer) + fromBond);
    }

    /// @inheritdoc IPaymentEscrow
    function creditRefund(address payer, uint128 amount) external restricted {
        uint128 balance = _deposits[payer].balance += amount;
        ledger += amount;
        emit Refunded(_next(), payer, amount, balance);
    }

    /// @inheritdoc IPaymentEscrow
    function available(address payer, address gateway, address provider, bytes32 modelId)
        public
        view
        returns (uint256 fromPayer, uint256 fromBond)
    {
        Limit storage limit = _limits[payer][gateway];
        bool listed = limit.anyModel || _allowed[_listed(payer, gateway, limit.listVersion, modelId)];
        if (limit.period != 0 && listed && block.timestamp < _limitEnd(limit)) {
            uint256 spent = block.timestamp - limit.periodStart < limit.period ? limit.spentInPeriod : 0;
            fromPayer = Math.min(_deposits[payer].balance, Math.saturatingSub(limit.amountPerPeriod, spent));
        }
        fromBond = _allocations[gateway][provider];
    }

    /// @inheritdoc IPaymentEscrow
    function depositOf(address payer) external view returns (Deposit memory) {
        return _deposits[payer];
    }

    /// @inheritdoc IPaymentEscrow
    function limitOf(address payer, address gateway) external view returns (Limit memory) {
        return _limits[payer][gateway];
    }

    /// @inheritdoc IPaymentEscrow
    function bondOf(address gateway) external view returns (Bond memory) {
        return _bonds[gateway];
    }

    /// @inheritdoc IPaymentEscrow
    function allocationOf(address gateway, address provider) external view returns (uint128) {
        return _allocations[gateway][provider];
    }

    function _deposit(address payer, uint128 amount) private {
        require(amount != 0, ZeroAmount());
        uint128 balance = _deposits[payer].balance += amount;
        ledger += amount;
        emit Deposited(_next(), payer, msg.sender, amount, balance);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    function _limitEnd(Limit storage limit) private view returns (uint64) {
        uint64 afterRevocation = limit.revokedAt == 0 ? type(uint64).max : limit.revokedAt + thawPeriod;
        return uint64(Math.min(limit.expiry + thawPeriod, afterRevocation));
    }

    function _listed(address payer, address gateway, uint64 version, bytes32 modelId) private pure returns (bytes32) {
        return keccak256(abi.encode(payer, gateway, version, modelId));
    }
}
