// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IPaymentEscrow} from "../interfaces/IPaymentEscrow.sol";
import {ISettlement} from "../interfaces/ISettlement.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";
import {SplitLib} from "../libraries/SplitLib.sol";
import {FuncToken} from "../token/FuncToken.sol";

/// @notice Documented in ISettlement.
contract Settlement is ISettlement, AccessManaged, EIP712, Sequenced {
    using SafeERC20 for FuncToken;

    bytes32 public constant VOUCHER_TYPEHASH =
        keccak256("Voucher(address payer,address gateway,address provider,bytes32 modelId,uint128 cumulative)");

    /// @notice Where the parts that have no other owner go, and their sizes.
    struct Parameters {
        address treasury;
        uint16 verifierBps;
        uint16 treasuryBps;
        uint16 burnBps;
    }

    FuncToken public immutable token;
    IPaymentEscrow public immutable escrow;
    IModelRegistry public immutable models;
    ICommitmentLog public immutable log;
    IVerifierSet public immutable verifiers;
    /// @dev Set once by the administrator: Disputes and Settlement each need the other.
    IDisputes public disputes;
    Parameters public parameters;

    /// @inheritdoc ISettlement
    uint256 public ledger;

    mapping(bytes32 stream => uint128) private _redeemed;
    mapping(address provider => Held) private _held;
    mapping(address provider => mapping(address payer => uint128)) public refundDue;
    mapping(uint64 epoch => uint256) public pot;
    mapping(uint64 epoch => mapping(address verifier => bool)) public claimed;

    constructor(
        address authority,
        FuncToken token_,
        IPaymentEscrow escrow_,
        IModelRegistry models_,
        ICommitmentLog log_,
        IVerifierSet verifiers_,
        Parameters memory parameters_
    ) AccessManaged(authority) EIP712("Function Network Settlement", "1") {
        token = token_;
        escrow = escrow_;
        models = models_;
        log = log_;
        verifiers = verifiers_;
        parameters = parameters_;
    }

    function setDisputes(IDisputes disputes_) external restricted {
        disputes = disputes_;
    }

    /// @inheritdoc ISettlement
    function redeem(Voucher[] calldata vouchers, bytes[] calldata signatures) external returns (Result[] memory results) {
        require(vouchers.length == signatures.length, LengthMismatch());
        results = new Result[](vouchers.length);
        for (uint256 i; i < vouchers.length; ++i) {
            Voucher calldata v = vouchers[i];
            uint128 delta;
            (results[i], delta) = _examine(v, signatures[i]);
            if (results[i] <= Result.Partial) _redeem(v, delta);
            else emit VoucherSkipped(_next(), v.provider, v.payer, v.gateway, results[i]);
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
            (results[i], deltas[i]) = _examine(vouchers[i], signatures[i]);
        }
    }

    /// @inheritdoc ISettlement
    function release(address provider, uint64 batchId) external returns (uint256 net) {
        require(disputes.openAgainst(provider) == 0, DisputeOpen(provider));
        Held storage h = _held[provider];
        uint256 room = Math.saturatingSub(log.maturedAmount(provider, batchId), h.releasedGross);
        uint128 gross = uint128(Math.min(h.gross, room));
        require(gross != 0, NothingToRelease());
        net = _takeHeld(h, gross);
        ledger -= net;
        emit Released(_next(), provider, gross, net, h.net);
        token.safeTransfer(provider, net);
    }

    /// @inheritdoc ISettlement
    function refund(address provider, address payer, uint128 amount) external restricted {
        Held storage h = _held[provider];
        uint128 due = refundDue[provider][payer] + amount;
        uint128 paid = uint128(Math.min(due, h.net));
        if (paid != 0) {
            // As much gross goes as its net share pays for, rounded up against the provider.
            uint128 gross = uint128(Math.mulDiv(paid, h.gross, h.net, Math.Rounding.Ceil));
            h.gross -= gross;
            h.net -= paid;
            h.releasedGross += gross;
        }
        refundDue[provider][payer] = due - paid;
        emit PayerRefunded(_next(), provider, payer, paid, due - paid);
        _creditRefund(payer, paid);
    }

    /// @inheritdoc ISettlement
    function claimVerifierPay(uint64 epoch) external returns (uint256 amount) {
        require(!verifiers.dutiesOpen(epoch), EpochOpen(epoch));
        require(verifiers.dutyRoot(epoch, msg.sender) != 0, NotOnDuty(msg.sender, epoch));
        require(!claimed[epoch][msg.sender], AlreadyClaimed(msg.sender, epoch));
        claimed[epoch][msg.sender] = true;
        amount = pot[epoch] / verifiers.dutyRootsPosted(epoch);
        ledger -= amount;
        emit VerifierPaid(_next(), msg.sender, epoch, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc ISettlement
    function rollOver(uint64 epoch) external {
        require(!verifiers.dutiesOpen(epoch), EpochOpen(epoch));
        require(verifiers.dutyRootsPosted(epoch) == 0, NotOnDuty(address(0), epoch));
        uint256 amount = pot[epoch];
        uint64 current = verifiers.currentEpoch();
        pot[epoch] = 0;
        pot[current] += amount;
        emit PotRolledOver(_next(), epoch, current, amount);
    }

    /// @inheritdoc ISettlement
    function redeemedOf(address payer, address gateway, address provider, bytes32 modelId) external view returns (uint128) {
        return _redeemed[keccak256(abi.encode(payer, gateway, provider, modelId))];
    }

    /// @inheritdoc ISettlement
    function heldOf(address provider) external view returns (Held memory) {
        return _held[provider];
    }

    /// @inheritdoc ISettlement
    function hashVoucher(Voucher calldata voucher) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, voucher)));
    }

    function _examine(Voucher calldata v, bytes calldata signature) private view returns (Result, uint128 delta) {
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(hashVoucher(v), signature);
        if (fault != ECDSA.RecoverError.NoError || signer != v.gateway) return (Result.BadSignature, 0);
        if (models.model(v.modelId).status == IModelRegistry.Status.None) return (Result.UnknownModel, 0);
        uint128 redeemed = _redeemed[_stream(v)];
        if (v.cumulative <= redeemed) return (Result.Stale, 0);
        (uint256 fromPayer, uint256 fromBond) = escrow.available(v.payer, v.gateway, v.provider, v.modelId);
        delta = uint128(Math.min(v.cumulative - redeemed, fromPayer + fromBond));
        if (delta == 0) return (Result.Unfunded, 0);
        return (delta == v.cumulative - redeemed ? Result.Redeemed : Result.Partial, delta);
    }

    function _redeem(Voucher calldata v, uint128 delta) private {
        uint128 redeemed = _redeemed[_stream(v)] += delta;
        escrow.debit(v.payer, v.gateway, v.provider, v.modelId, delta);
        IModelRegistry.Model memory m = models.model(v.modelId);
        Parameters memory p = parameters;
        SplitLib.Parts memory parts = SplitLib.splitDown(delta, SplitLib.Shares(m.royaltyBps, p.verifierBps, p.treasuryBps, p.burnBps));
        uint64 epoch = verifiers.currentEpoch();
        pot[epoch] += parts.verifiers;
        Held storage h = _held[v.provider];
        uint128 dueBack = uint128(Math.min(refundDue[v.provider][v.payer], parts.provider));
        h.gross += delta;
        h.net += uint128(parts.provider) - dueBack;
        ledger += parts.provider - dueBack + parts.verifiers;
        emit VoucherRedeemed(_next(), v.provider, v.payer, v.modelId, Redemption(v.gateway, delta, redeemed, m.payout, epoch, parts));
        token.safeTransfer(m.payout, parts.royalty);
        token.safeTransfer(p.treasury, parts.treasury);
        token.burn(parts.burned);
        if (dueBack != 0) {
            refundDue[v.provider][v.payer] -= dueBack;
            emit PayerRefunded(_next(), v.provider, v.payer, dueBack, refundDue[v.provider][v.payer]);
            ledger += dueBack;
            _creditRefund(v.payer, dueBack);
        }
    }

    /// @dev The net share of `gross`, rounded down; the last release takes the remainder with it.
    function _takeHeld(Held storage h, uint128 gross) private returns (uint128 net) {
        net = uint128(Math.mulDiv(h.net, gross, h.gross));
        h.gross -= gross;
        h.net -= net;
        h.releasedGross += gross;
    }

    function _creditRefund(address payer, uint128 amount) private {
        if (amount == 0) return;
        ledger -= amount;
        token.safeTransfer(address(escrow), amount);
        escrow.creditRefund(payer, amount);
    }

    function _stream(Voucher calldata v) private pure returns (bytes32) {
        return keccak256(abi.encode(v.payer, v.gateway, v.provider, v.modelId));
    }
}
