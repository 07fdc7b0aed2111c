// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Guarded} from "../access/Guarded.sol";
import {Ledgered} from "../access/Sequenced.sol";
import {IPaymentEscrow} from "../interfaces/IPaymentEscrow.sol";
import {FuncToken} from "../token/FuncToken.sol";

/// @notice Documented in IPaymentEscrow.
contract PaymentEscrow is IPaymentEscrow, Ledgered, Guarded, EIP712 {
    using SafeCast for uint256;
    using SafeERC20 for FuncToken;

    bytes32 public constant AUTHORISATION_TYPEHASH =
        keccak256("Authorisation(address payer,address gateway,uint128 cumulative,bytes32 requestHash)");
    uint8 private constant ANY_MODEL = 1;
    uint8 private constant SIGNED = 2;

    /// @dev All that a redemption within a running period reads and writes: one word.
    struct Reserve {
        uint88 reserved;
        uint88 room;
        uint32 periodEnd;
        uint40 endsAt;
        uint8 flags;
    }

    struct Terms {
        uint88 amountPerPeriod;
        uint32 period;
        uint40 expiry;
        uint40 revokedAt;
        uint32 listVersion;
    }

    /// @param loweredUntil while set, a lowered allocation still covers its old amount, so a gateway cannot pull cover from under a voucher
    struct Allocation {
        uint96 amount;
        uint64 loweredUntil;
    }

    struct SignedTotal {
        uint96 cumulative;
        uint96 taken;
    }

    FuncToken public immutable token;
    address public immutable settlement;
    uint64 public immutable thawPeriod;

    mapping(address payer => Deposit) private _deposits;
    mapping(address payer => mapping(address gateway => Reserve)) private _reserves;
    mapping(address payer => mapping(address gateway => Terms)) private _terms;
    mapping(address payer => mapping(address gateway => SignedTotal)) private _authorised;
    mapping(bytes32 listedModel => bool) private _allowed;
    mapping(address gateway => Bond) private _bonds;
    mapping(address gateway => mapping(address provider => Allocation)) private _allocations;

    modifier onlySettlement() {
        require(msg.sender == settlement, NotAllowed(msg.sender));
        _;
    }

    constructor(address authority, FuncToken token_, address settlement_, uint64 thawPeriod_)
        AccessManaged(authority)
        EIP712("Function Network Escrow", "1")
    {
        token = token_;
        settlement = settlement_;
        thawPeriod = thawPeriod_;
    }

    /// @inheritdoc IPaymentEscrow
    function deposit(address payer, uint128 amount) external whenOpen {
        _deposit(payer, amount);
    }

    /// @inheritdoc IPaymentEscrow
    function depositWithPermit(uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external whenOpen {
        // A front-run permit has already set the allowance, so its failure alone is no reason to fail.
        try token.permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _deposit(msg.sender, amount);
    }

    /// @inheritdoc IPaymentEscrow
    function startWithdrawal(uint128 amount) external {
        require(amount != 0, ZeroAmount());
        Deposit storage d = _deposits[msg.sender];
        d.thawing = uint256(amount).toUint96();
        d.thawedAt = uint64(block.timestamp) + thawPeriod;
        emit ThawStarted(_next(), msg.sender, amount, d.thawedAt);
    }

    /// @inheritdoc IPaymentEscrow
    function withdraw() external returns (uint256 amount) {
        Deposit storage d = _deposits[msg.sender];
        require(d.thawing != 0, ZeroAmount());
        require(d.thawedAt <= block.timestamp, StillThawing(d.thawedAt));
        amount = Math.min(d.thawing, d.balance);
        require(amount != 0, ZeroAmount());
        d.thawing = 0;
        d.balance -= uint96(amount);
        _owed -= uint96(amount);
        emit Withdrawn(_next(), msg.sender, amount, d.balance);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IPaymentEscrow
    function setLimit(address gateway, uint128 amountPerPeriod, uint64 period, uint64 expiry, bytes32[] calldata models) external whenOpen {
        _setLimit(gateway, amountPerPeriod, period, expiry, models, 0);
    }

    /// @inheritdoc IPaymentEscrow
    function onboard(Onboarding calldata o) external whenOpen {
        try token.permit(msg.sender, address(this), o.amount, o.deadline, o.v, o.r, o.s) {} catch {}
        _owed += uint256(o.amount).toUint96();
        emit Deposited(_next(), msg.sender, msg.sender, o.amount, _deposits[msg.sender].balance + uint96(o.amount));
        _setLimit(o.gateway, o.amountPerPeriod, o.period, o.expiry, o.models, uint96(o.amount));
        token.safeTransferFrom(msg.sender, address(this), o.amount);
    }

    /// @inheritdoc IPaymentEscrow
    function requireSignatures(address gateway, bool required) external {
        Reserve storage r = _reserves[msg.sender][gateway];
        require(!required || block.timestamp >= r.endsAt, BadLimit());
        r.flags = required ? r.flags | SIGNED : r.flags & ~SIGNED;
        emit SignaturesRequired(_next(), msg.sender, gateway, required);
    }

    /// @inheritdoc IPaymentEscrow
    function authorise(address payer, address gateway, uint128 cumulative, bytes32 requestHash, bytes calldata signature) external {
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(AUTHORISATION_TYPEHASH, payer, gateway, cumulative, requestHash)));
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digest, signature);
        require(fault == ECDSA.RecoverError.NoError && signer == payer, BadAuthorisation());
        SignedTotal storage a = _authorised[payer][gateway];
        // More than can exist counts as that: a stage that took it must be able to show it.
        uint96 total = uint96(Math.min(cumulative, type(uint96).max));
        if (total <= a.cumulative) return;
        a.cumulative = total;
        emit Authorised(_next(), payer, gateway, total);
    }

    /// @inheritdoc IPaymentEscrow
    function revokeLimit(address gateway) external {
        Reserve storage r = _reserves[msg.sender][gateway];
        Terms storage t = _terms[msg.sender][gateway];
        require(block.timestamp < r.endsAt && t.revokedAt == 0, NoLimit(msg.sender, gateway));
        t.revokedAt = uint40(block.timestamp);
        r.endsAt = uint40(Math.min(r.endsAt, block.timestamp + thawPeriod));
        emit LimitRevoked(_next(), msg.sender, gateway, r.endsAt);
    }

    /// @inheritdoc IPaymentEscrow
    function reclaim(address gateway) external {
        Reserve storage r = _reserves[msg.sender][gateway];
        require(block.timestamp >= r.endsAt, StillThawing(r.endsAt));
        uint96 reserved = r.reserved;
        require(reserved != 0, ZeroAmount());
        r.reserved = 0;
        uint96 balance = _deposits[msg.sender].balance += reserved;
        emit ReserveTaken(_next(), msg.sender, gateway, 0, balance);
    }

    /// @inheritdoc IPaymentEscrow
    function addBond(address gateway, uint128 amount) external whenOpen {
        require(amount != 0, ZeroAmount());
        uint96 balance = _bonds[gateway].balance += uint256(amount).toUint96();
        _owed += uint96(amount);
        emit BondAdded(_next(), gateway, amount, balance);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IPaymentEscrow
    function startBondWithdrawal(uint128 amount) external {
        Bond storage bond = _bonds[msg.sender];
        require(amount != 0, ZeroAmount());
        uint256 free = bond.balance - bond.allocated;
        require(free >= amount, InsufficientBalance(free, amount));
        bond.thawing = uint96(amount);
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
        bond.balance -= uint96(amount);
        _owed -= uint96(amount);
        emit BondWithdrawn(_next(), msg.sender, amount, bond.balance);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IPaymentEscrow
    function allocate(address provider, uint128 amount) external {
        Bond storage bond = _bonds[msg.sender];
        Allocation storage a = _allocations[msg.sender][provider];
        uint96 old = a.amount;
        if (amount < old) {
            // Two calls, a thaw apart: the first announces, the second takes effect.
            uint64 until = a.loweredUntil;
            if (until == 0) {
                a.loweredUntil = uint64(block.timestamp) + thawPeriod;
                emit BondAllocated(_next(), msg.sender, provider, old, bond.allocated);
                return;
            }
            require(until <= block.timestamp, StillThawing(until));
        }
        uint256 allocated = uint256(bond.allocated) - old + amount;
        uint256 limit = bond.balance - bond.thawing;
        require(allocated <= limit, InsufficientBalance(limit, allocated));
        bond.allocated = uint96(allocated);
        _allocations[msg.sender][provider] = Allocation(uint96(amount), 0);
        emit BondAllocated(_next(), msg.sender, provider, amount, allocated);
    }

    /// @inheritdoc IPaymentEscrow
    function debit(address payer, address gateway, address provider, bytes32 modelId, uint96 amount)
        external
        onlySettlement
        returns (uint96 taken)
    {
        taken = _takeFromPayer(payer, gateway, modelId, amount);
        if (taken != amount) taken += _takeFromBond(gateway, provider, amount - taken);
    }

    /// @inheritdoc IPaymentEscrow
    function creditRefund(address payer, uint96 amount) external onlySettlement {
        uint96 balance = _deposits[payer].balance += amount;
        emit Refunded(_next(), payer, amount, balance);
    }

    /// @inheritdoc IPaymentEscrow
    function pay(address to, uint96 amount) external onlySettlement {
        _owed -= amount;
        emit Paid(_next(), to, amount);
        token.safeTransfer(to, amount);
    }

    /// @inheritdoc IPaymentEscrow
    function burn(uint96 amount) external onlySettlement {
        _owed -= amount;
        emit Paid(_next(), address(0), amount);
        token.burn(amount);
    }

    /// @inheritdoc IPaymentEscrow
    function available(address payer, address gateway, address provider, bytes32 modelId)
        external
        view
        returns (uint256 fromPayer, uint256 fromBond)
    {
        return availableWith(payer, gateway, provider, modelId, 0);
    }

    /// @inheritdoc IPaymentEscrow
    function availableWith(address payer, address gateway, address provider, bytes32 modelId, uint128 cumulative)
        public
        view
        returns (uint256 fromPayer, uint256 fromBond)
    {
        fromBond = _allocations[gateway][provider].amount;
        Reserve memory r = _reserves[payer][gateway];
        if (!_covers(r, payer, gateway, modelId)) return (0, fromBond);
        uint96 balance = _deposits[payer].balance;
        fromPayer = block.timestamp < r.periodEnd
            ? r.reserved + Math.min(r.room, balance)
            : Math.min(_terms[payer][gateway].amountPerPeriod, uint256(balance) + r.reserved);
        if (r.flags & SIGNED == 0) return (fromPayer, fromBond);
        SignedTotal memory a = _authorised[payer][gateway];
        fromPayer = Math.min(fromPayer, Math.max(a.cumulative, cumulative) - a.taken);
    }

    /// @inheritdoc IPaymentEscrow
    function authorisationOf(address payer, address gateway) external view returns (Authorisation memory) {
        SignedTotal memory a = _authorised[payer][gateway];
        return Authorisation(_reserves[payer][gateway].flags & SIGNED != 0, a.cumulative, a.taken);
    }

    /// @inheritdoc IPaymentEscrow
    function depositOf(address payer) external view returns (Deposit memory) {
        return _deposits[payer];
    }

    /// @inheritdoc IPaymentEscrow
    function limitOf(address payer, address gateway) external view returns (Limit memory) {
        Reserve memory r = _reserves[payer][gateway];
        Terms memory t = _terms[payer][gateway];
        bool anyModel = r.flags & ANY_MODEL != 0;
        return Limit(r.reserved, r.room, r.periodEnd, r.endsAt, anyModel, t.amountPerPeriod, t.period, t.expiry, t.revokedAt, t.listVersion);
    }

    /// @inheritdoc IPaymentEscrow
    function bondOf(address gateway) external view returns (Bond memory) {
        return _bonds[gateway];
    }

    /// @inheritdoc IPaymentEscrow
    function allocationOf(address gateway, address provider) external view returns (uint96) {
        return _allocations[gateway][provider].amount;
    }

    /// @notice When a lowering of the allocation may take effect, or zero.
    function loweredUntil(address gateway, address provider) external view returns (uint64) {
        return _allocations[gateway][provider].loweredUntil;
    }

    function _deposit(address payer, uint128 amount) private {
        require(amount != 0, ZeroAmount());
        uint96 balance = _deposits[payer].balance += uint256(amount).toUint96();
        _owed += uint96(amount);
        emit Deposited(_next(), payer, msg.sender, amount, balance);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @param deposited what the caller brings beside its balance
    function _setLimit(address gateway, uint128 amountPerPeriod, uint64 period, uint64 expiry, bytes32[] calldata models, uint96 deposited)
        private
    {
        _requireSane(amountPerPeriod, period, expiry);
        Reserve memory r = _reserves[msg.sender][gateway];
        _terms[msg.sender][gateway] = _newTerms(gateway, r, Terms(uint88(amountPerPeriod), uint32(period), uint40(expiry), 0, 0), models);
        (r.periodEnd, r.endsAt) = (uint32(block.timestamp + period), uint40(expiry + thawPeriod));
        uint96 balance = _fill(_deposits[msg.sender], r, uint88(amountPerPeriod), deposited);
        _reserves[msg.sender][gateway] = r;
        emit LimitSet(_next(), msg.sender, gateway, amountPerPeriod, period, expiry, models, r.reserved, balance);
    }

    /// @dev Terms as they may follow the present ones: lowering, shortening or narrowing a limit in place would outrun vouchers already signed.
    function _newTerms(address gateway, Reserve memory r, Terms memory t, bytes32[] calldata models) private returns (Terms memory) {
        Terms memory old = _terms[msg.sender][gateway];
        bool holds = block.timestamp < r.endsAt;
        require(!holds || (old.revokedAt == 0 && t.amountPerPeriod >= old.amountPerPeriod && t.expiry >= old.expiry), BadLimit());
        bool anyModel = models.length == 0 || (holds && r.flags & ANY_MODEL != 0);
        r.flags = (r.flags & SIGNED) | (anyModel ? ANY_MODEL : 0);
        t.listVersion = holds ? old.listVersion : old.listVersion + 1;
        for (uint256 i; i < models.length; ++i) {
            _allowed[_listed(msg.sender, gateway, t.listVersion, models[i])] = true;
        }
        return t;
    }

    function _requireSane(uint128 amountPerPeriod, uint64 period, uint64 expiry) private view {
        bool amount = amountPerPeriod != 0 && amountPerPeriod <= type(uint88).max;
        // Kept clear of the types' ends, so that no sum with them can fail a batch of redemptions.
        bool times = period != 0 && period <= type(uint32).max / 8 && expiry > block.timestamp && expiry <= type(uint40).max / 2;
        require(amount && times, BadLimit());
    }

    function _takeFromPayer(address payer, address gateway, bytes32 modelId, uint96 amount) private returns (uint96 taken) {
        Reserve storage kept = _reserves[payer][gateway];
        Reserve memory r = kept;
        if (r.flags == ANY_MODEL && r.reserved >= amount && block.timestamp < r.periodEnd && block.timestamp < r.endsAt) {
            // What nearly every redemption does: one member of one word.
            kept.reserved = r.reserved - uint88(amount);
            return amount;
        }
        if (!_covers(r, payer, gateway, modelId)) return 0;
        if (r.flags & SIGNED != 0) {
            SignedTotal storage a = _authorised[payer][gateway];
            amount = uint96(Math.min(amount, a.cumulative - a.taken));
            if (amount == 0) return 0;
            taken = _takeReserved(payer, gateway, r, amount);
            a.taken += taken;
            return taken;
        }
        return _takeReserved(payer, gateway, r, amount);
    }

    function _takeReserved(address payer, address gateway, Reserve memory r, uint96 amount) private returns (uint96 taken) {
        if (block.timestamp >= r.periodEnd) _startPeriod(payer, gateway, r);
        taken = r.reserved < amount ? r.reserved : amount;
        r.reserved -= uint88(taken);
        if (taken != amount && r.room != 0) {
            uint96 balance = _deposits[payer].balance;
            uint96 more = uint96(Math.min(Math.min(r.room, balance), amount - taken));
            _deposits[payer].balance = balance - more;
            r.room -= uint88(more);
            taken += more;
        }
        _reserves[payer][gateway] = r;
    }

    /// @dev The period that runs now, its reserve taken anew from all the payer has.
    function _startPeriod(address payer, address gateway, Reserve memory r) private {
        Terms memory t = _terms[payer][gateway];
        uint256 passed = (block.timestamp - r.periodEnd) / t.period + 1;
        r.periodEnd = uint32(r.periodEnd + passed * t.period);
        uint96 balance = _fill(_deposits[payer], r, t.amountPerPeriod, 0);
        emit ReserveTaken(_next(), payer, gateway, r.reserved, balance);
    }

    function _fill(Deposit storage d, Reserve memory r, uint88 amount, uint96 deposited) private returns (uint96 balance) {
        uint96 before = d.balance;
        balance = before + r.reserved + deposited;
        r.reserved = uint88(Math.min(amount, balance));
        r.room = amount - r.reserved;
        balance -= r.reserved;
        if (balance != before) d.balance = balance;
    }

    function _takeFromBond(address gateway, address provider, uint96 amount) private returns (uint96 taken) {
        Allocation storage a = _allocations[gateway][provider];
        taken = uint96(Math.min(a.amount, amount));
        if (taken == 0) return 0;
        a.amount -= taken;
        Bond storage bond = _bonds[gateway];
        bond.allocated -= taken;
        bond.balance -= taken;
        emit BondDebited(_next(), gateway, provider, taken, bond.balance);
    }

    function _covers(Reserve memory r, address payer, address gateway, bytes32 modelId) private view returns (bool) {
        if (block.timestamp >= r.endsAt) return false;
        return r.flags & ANY_MODEL != 0 || _allowed[_listed(payer, gateway, _terms[payer][gateway].listVersion, modelId)];
    }

    function _listed(address payer, address gateway, uint32 version, bytes32 modelId) private pure returns (bytes32) {
        return keccak256(abi.encode(payer, gateway, version, modelId));
    }

    function _pausable(bytes4 selector) internal pure override returns (bool) {
        return selector == this.deposit.selector || selector == this.depositWithPermit.selector || selector == this.setLimit.selector
            || selector == this.addBond.selector || selector == this.onboard.selector;
    }
}
