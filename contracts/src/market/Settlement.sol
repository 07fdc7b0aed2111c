// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {IAttendance} from "../interfaces/IAttendance.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IPaymentEscrow} from "../interfaces/IPaymentEscrow.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {IRewardPool} from "../interfaces/IRewardPool.sol";
import {ISettlement} from "../interfaces/ISettlement.sol";
import {IStaking} from "../interfaces/IStaking.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";
import {SplitLib} from "../libraries/SplitLib.sol";

/// @notice Documented in ISettlement.
contract Settlement is ISettlement, Sequenced, AccessManaged, EIP712 {
    bytes32 public constant VOUCHER_TYPEHASH =
        keccak256("Voucher(address payer,address gateway,address provider,bytes32 modelId,uint128 cumulative)");
    /// @notice The verifiers', the treasury's and the burnt share together.
    uint16 public constant MAX_CUT_BPS = 2_000;

    /// @notice The contracts that a redemption reads or moves.
    struct Wiring {
        IPaymentEscrow escrow;
        IStaking staking;
        IModelRegistry models;
        ICommitmentLog log;
        IVerifierSet verifiers;
        IRewardPool rewards;
        address disputes;
        IAttendance attendance;
        IProviderRegistry providers;
    }

    /// @param gross redeemed and not yet released or refunded
    /// @param dues refunds that are still owed from the next redemptions
    struct Held {
        uint96 gross;
        uint32 dues;
    }

    IPaymentEscrow public immutable escrow;
    IStaking public immutable staking;
    IModelRegistry public immutable models;
    ICommitmentLog public immutable log;
    IVerifierSet public immutable verifiers;
    IRewardPool public immutable rewards;
    address public immutable disputes;
    IAttendance public immutable attendance;
    IProviderRegistry public immutable providers;

    uint96 private _treasuryDue;
    uint96 private _burnDue;
    Parameters private _parameters;
    mapping(bytes32 stream => uint128) private _redeemed;
    mapping(address provider => mapping(bytes32 modelId => Held)) private _held;
    mapping(address provider => uint128) private _released;
    mapping(bytes32 debt => uint96) private _refundDue;
    mapping(uint64 epoch => uint256) public pot;
    mapping(uint64 epoch => mapping(address verifier => bool)) public claimed;

    constructor(address authority, Wiring memory w, Parameters memory parameters_)
        AccessManaged(authority)
        EIP712("Function Network Settlement", "1")
    {
        escrow = w.escrow;
        staking = w.staking;
        models = w.models;
        log = w.log;
        verifiers = w.verifiers;
        rewards = w.rewards;
        disputes = w.disputes;
        attendance = w.attendance;
        providers = w.providers;
        _set(parameters_);
    }

    /// @inheritdoc ISettlement
    function redeem(Voucher[] calldata vouchers, bytes[] calldata signatures) external returns (Result[] memory results) {
        require(vouchers.length == signatures.length, LengthMismatch());
        results = new Result[](vouchers.length);
        for (uint256 i; i < vouchers.length; ++i) {
            results[i] = _redeem(vouchers[i], signatures[i]);
        }
    }

    /// @inheritdoc ISettlement
    function preview(Voucher[] calldata vouchers, bytes[] calldata signatures)
        external
        view
        returns (Result[] memory results, uint128[] memory deltas)
    {
        require(vouchers.length == signatures.length, LengthMismatch());
        results = new Result[](vouchers.length);
        deltas = new uint128[](vouchers.length);
        for (uint256 i; i < vouchers.length; ++i) {
            Voucher calldata v = vouchers[i];
            uint128 redeemed = _redeemed[_stream(v)];
            results[i] = _examine(v, signatures[i], redeemed);
            if (results[i] != Result.Redeemed) continue;
            (uint256 fromPayer, uint256 fromBond) = escrow.available(v.payer, v.gateway, v.provider, v.modelId);
            uint128 wanted = v.cumulative - redeemed;
            deltas[i] = uint128(Math.min(wanted, fromPayer + fromBond));
            if (deltas[i] != wanted) results[i] = deltas[i] == 0 ? Result.Unfunded : Result.Partial;
        }
    }

    /// @inheritdoc ISettlement
    function release(address provider, uint64 batchId, bytes32[] calldata modelIds) external returns (uint256 net) {
        require(staking.openDisputes(provider) == 0, DisputeOpen(provider));
        return _release(provider, Math.saturatingSub(log.mature(provider, batchId), _released[provider]), modelIds);
    }

    /// @inheritdoc ISettlement
    function releaseChecks(address verifier, bytes32[] calldata modelIds) external returns (uint256 net) {
        // Else a provider could be paid for work that it never anchors, and so for work that nobody checks.
        bool provides = providers.providerInfo(verifier).operator != address(0);
        require(verifiers.memberOf(verifier).joined && !provides, NotVerifier(verifier));
        return _release(verifier, type(uint256).max, modelIds);
    }

    /// @inheritdoc ISettlement
    function refund(address provider, address payer, bytes32 modelId, uint128 amount) external {
        require(msg.sender == disputes, NotAllowed(msg.sender));
        Held storage h = _held[provider][modelId];
        bytes32 debt = _debt(provider, payer, modelId);
        uint96 before = _refundDue[debt];
        uint96 due = before + uint96(amount);
        uint96 paid = uint96(Math.min(due, h.gross));
        h.gross -= paid;
        _released[provider] += paid;
        _setDue(h, debt, before, due - paid);
        emit PayerRefunded(_next(), provider, payer, modelId, paid, due - paid);
        if (paid != 0) escrow.creditRefund(payer, paid);
    }

    /// @inheritdoc ISettlement
    function claimVerifierPay(uint64 epoch) external returns (uint256 amount) {
        require(!attendance.isDocked(epoch, msg.sender), Docked(msg.sender, epoch));
        amount = _takeShare(epoch, msg.sender);
        emit VerifierPaid(_next(), msg.sender, epoch, amount);
        escrow.pay(msg.sender, uint96(amount));
    }

    /// @inheritdoc ISettlement
    function forfeit(uint64 epoch, address verifier) external returns (uint256 amount) {
        require(attendance.isDocked(epoch, verifier), NotDocked(verifier, epoch));
        amount = _takeShare(epoch, verifier);
        _rollOver(epoch, amount);
    }

    /// @inheritdoc ISettlement
    function rollOver(uint64 epoch) external {
        require(!verifiers.dutiesOpen(epoch), EpochOpen(epoch));
        require(verifiers.dutyRootsPosted(epoch) == 0, NotOnDuty(address(0), epoch));
        uint256 amount = pot[epoch];
        pot[epoch] = 0;
        _rollOver(epoch, amount);
    }

    /// @inheritdoc ISettlement
    function sweep() external {
        (uint96 toTreasury, uint96 toBurn) = (_treasuryDue, _burnDue);
        require(toTreasury + toBurn != 0, NothingToRelease());
        (_treasuryDue, _burnDue) = (0, 0);
        address treasury = _parameters.treasury;
        emit Swept(_next(), treasury, toTreasury, toBurn);
        escrow.pay(treasury, toTreasury);
        escrow.burn(toBurn);
    }

    /// @inheritdoc ISettlement
    function setParameters(Parameters calldata parameters_) external restricted {
        _set(parameters_);
    }

    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @notice What waits for the next `sweep`.
    function sweepable() external view returns (uint96 toTreasury, uint96 toBurn) {
        return (_treasuryDue, _burnDue);
    }

    /// @inheritdoc ISettlement
    function redeemedOf(address payer, address gateway, address provider, bytes32 modelId) external view returns (uint128) {
        return _redeemed[keccak256(abi.encode(payer, gateway, provider, modelId))];
    }

    /// @inheritdoc ISettlement
    function heldOf(address provider, bytes32 modelId) external view returns (uint128) {
        return _held[provider][modelId].gross;
    }

    /// @inheritdoc ISettlement
    function releasedOf(address provider) external view returns (uint128) {
        return _released[provider];
    }

    /// @inheritdoc ISettlement
    function refundDue(address provider, address payer, bytes32 modelId) external view returns (uint128) {
        return _refundDue[_debt(provider, payer, modelId)];
    }

    /// @inheritdoc ISettlement
    function hashVoucher(Voucher calldata voucher) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, voucher)));
    }

    /// @dev Whether a voucher can be redeemed, money aside.
    function _examine(Voucher calldata v, bytes calldata signature, uint128 redeemed) private view returns (Result) {
        if (v.cumulative <= redeemed) return Result.Stale;
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(hashVoucher(v), signature);
        if (fault != ECDSA.RecoverError.NoError || signer != v.gateway) return Result.BadSignature;
        // A stream that has been redeemed from has a known model, and no amount above what can exist is ever there.
        if (redeemed == 0 && models.statusOf(v.modelId) == IModelRegistry.Status.None) return Result.UnknownModel;
        return v.cumulative > type(uint96).max ? Result.Unfunded : Result.Redeemed;
    }

    function _redeem(Voucher calldata v, bytes calldata signature) private returns (Result result) {
        bytes32 stream = _stream(v);
        uint128 redeemed = _redeemed[stream];
        result = _examine(v, signature, redeemed);
        uint96 taken;
        if (result == Result.Redeemed) {
            uint96 wanted = uint96(v.cumulative - redeemed);
            taken = escrow.debit(v.payer, v.gateway, v.provider, v.modelId, wanted);
            if (taken != wanted) result = taken == 0 ? Result.Unfunded : Result.Partial;
        }
        if (taken == 0) {
            emit VoucherSkipped(_next(), v.provider, v.payer, v.gateway, result);
            return result;
        }
        redeemed += taken;
        _redeemed[stream] = redeemed;
        _hold(v, taken, redeemed);
    }

    /// @dev Books a redemption; refunds that a verdict left open are taken from it first.
    function _hold(Voucher calldata v, uint96 taken, uint128 redeemed) private {
        Held storage h = _held[v.provider][v.modelId];
        h.gross += taken;
        emit VoucherRedeemed(_next(), v.provider, v.payer, v.modelId, Redemption(v.gateway, taken, redeemed));
        if (h.dues != 0) _payDue(v);
    }

    function _payDue(Voucher calldata v) private {
        bytes32 debt = _debt(v.provider, v.payer, v.modelId);
        uint96 due = _refundDue[debt];
        if (due == 0) return;
        Held storage h = _held[v.provider][v.modelId];
        uint96 paid = uint96(Math.min(due, h.gross));
        h.gross -= paid;
        _released[v.provider] += paid;
        _setDue(h, debt, due, due - paid);
        emit PayerRefunded(_next(), v.provider, v.payer, v.modelId, paid, due - paid);
        escrow.creditRefund(v.payer, paid);
    }

    function _setDue(Held storage h, bytes32 debt, uint96 before, uint96 due) private {
        _refundDue[debt] = due;
        if (before == 0 && due != 0) ++h.dues;
        if (before != 0 && due == 0) --h.dues;
    }

    /// @dev A verifier's share of an epoch whose duties are closed, once.
    function _takeShare(uint64 epoch, address verifier) private returns (uint256) {
        require(!verifiers.dutiesOpen(epoch), EpochOpen(epoch));
        require(verifiers.dutyRoot(epoch, verifier) != 0, NotOnDuty(verifier, epoch));
        require(!claimed[epoch][verifier], AlreadyClaimed(verifier, epoch));
        claimed[epoch][verifier] = true;
        return pot[epoch] / verifiers.dutyRootsPosted(epoch);
    }

    function _rollOver(uint64 epoch, uint256 amount) private {
        uint64 current = verifiers.currentEpoch();
        pot[current] += amount;
        emit PotRolledOver(_next(), epoch, current, amount);
    }

    /// @dev Splits and pays what is held, `room` of it at most.
    function _release(address provider, uint256 room, bytes32[] calldata modelIds) private returns (uint256 net) {
        uint128 released = _released[provider];
        uint96 cut;
        uint96 delegators;
        for (uint256 i; i < modelIds.length; ++i) {
            Held storage h = _held[provider][modelIds[i]];
            uint96 gross = uint96(Math.min(h.gross, room));
            if (gross == 0) continue;
            h.gross -= gross;
            room -= gross;
            released += gross;
            Payout memory p = _split(provider, modelIds[i], gross, h.gross);
            net += p.parts.provider - p.delegators;
            delegators += p.delegators;
            cut += p.parts.treasury + p.parts.burned;
        }
        require(released != _released[provider], NothingToRelease());
        _released[provider] = released;
        rewards.record(provider, cut);
        if (delegators != 0) {
            escrow.pay(address(staking), delegators);
            staking.creditPool(provider, delegators);
        }
        escrow.pay(provider, uint96(net));
    }

    /// @dev Splits released fees; royalty and the pot are served here, the provider's part by the caller.
    function _split(address provider, bytes32 modelId, uint96 gross, uint96 left) private returns (Payout memory p) {
        (address payout, uint16 royaltyBps) = models.royaltyOf(modelId);
        Parameters memory q = _parameters;
        p.parts = SplitLib.splitDown(gross, SplitLib.Shares(royaltyBps, q.verifierBps, q.treasuryBps, q.burnBps));
        (p.amount, p.royaltyTo, p.epoch, p.held) = (gross, payout, verifiers.currentEpoch(), left);
        p.delegators = staking.delegatorsShareDown(provider, p.parts.provider);
        pot[p.epoch] += p.parts.verifiers;
        _treasuryDue += p.parts.treasury;
        _burnDue += p.parts.burned;
        emit Released(_next(), provider, modelId, p);
        if (p.parts.royalty != 0) escrow.pay(payout, p.parts.royalty);
    }

    function _set(Parameters memory p) private {
        require(p.treasury != address(0) && uint256(p.verifierBps) + p.treasuryBps + p.burnBps <= MAX_CUT_BPS, BadParameters());
        _parameters = p;
        emit ParametersSet(_next(), p);
    }

    function _stream(Voucher calldata v) private pure returns (bytes32) {
        return keccak256(abi.encode(v.payer, v.gateway, v.provider, v.modelId));
    }

    function _debt(address provider, address payer, bytes32 modelId) private pure returns (bytes32) {
        return keccak256(abi.encode(provider, payer, modelId));
    }
}
