// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {ISettlement} from "../interfaces/ISettlement.sol";
import {IStaking} from "../interfaces/IStaking.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";
import {ReceiptLib} from "../libraries/ReceiptLib.sol";
import {FuncToken} from "../token/FuncToken.sol";

/// @notice Documented in IDisputes.
contract Disputes is IDisputes, AccessManaged, Sequenced {
    using SafeERC20 for FuncToken;

    bytes32 public constant VERDICT_PURPOSE = "VERDICT";
    uint256 public constant SMALL_NETWORK = 7;

    /// @notice The contracts that a dispute reads or moves.
    struct Parts {
        FuncToken token;
        IStaking staking;
        IProviderRegistry registry;
        IModelRegistry models;
        ICommitmentLog log;
        IVerifierSet verifiers;
        ISettlement settlement;
    }

    Parts private _parts;
    Parameters private _parameters;
    Dispute[] private _disputes;
    mapping(bytes32 evidenceId => bool) public evidenceClosed;
    /// @inheritdoc IDisputes
    mapping(address provider => uint256) public openAgainst;
    /// @inheritdoc IDisputes
    mapping(address account => uint256) public owed;
    /// @inheritdoc IDisputes
    uint256 public ledger;

    constructor(address authority, Parts memory parts, Parameters memory parameters_) AccessManaged(authority) {
        _parts = parts;
        _set(parameters_);
    }

    /// @inheritdoc IDisputes
    function open(ReceiptLib.Receipt calldata receipt, uint64 batchId, bytes32[] calldata proof, Kind kind)
        external
        returns (uint256 disputeId)
    {
        require(kind != Kind.None, BadKind());
        Parameters memory p = _parameters;
        ICommitmentLog.Batch memory b = _parts.log.batch(receipt.provider, batchId);
        bytes32 leaf = ReceiptLib.leaf(receipt);
        require(MerkleProof.verifyCalldata(proof, b.root, leaf), NotAnchored());
        require(block.timestamp <= b.anchoredAt + p.disputeWindow, WindowOver(b.anchoredAt + p.disputeWindow));
        bytes32 evidenceId = keccak256(abi.encode(receipt.provider, b.root, leaf, kind));
        require(!evidenceClosed[evidenceId], EvidenceClosed(evidenceId));
        evidenceClosed[evidenceId] = true;

        disputeId = _disputes.length;
        Dispute storage d = _disputes.push();
        d.provider = receipt.provider;
        d.challenger = msg.sender;
        d.payer = receipt.payer;
        d.batchId = batchId;
        d.receiptNumber = receipt.number;
        d.jobId = receipt.jobId;
        d.modelId = receipt.modelId;
        (d.firstLayer, d.endLayer) = (receipt.firstLayer, receipt.endLayer);
        d.evidenceId = evidenceId;
        d.kind = kind;
        d.status = Status.Open;
        d.epoch = _parts.verifiers.currentEpoch();
        d.deadline = uint64(block.timestamp) + p.verdictPeriod;
        d.refundAmount = receipt.amount;
        d.parameters = p;
        ++openAgainst[receipt.provider];
        ledger += p.bond;
        // Before attestation a verdict only refunds, so there is nothing to freeze.
        if (_parts.models.model(receipt.modelId).toleranceAttested) {
            d.frozen = _parts.staking.freeze(receipt.provider, uint128(_slashAmount(d)));
        }
        emit DisputeOpened(_next(), disputeId, receipt.provider, msg.sender, d);
        _parts.token.safeTransferFrom(msg.sender, address(this), p.bond);
    }

    /// @inheritdoc IDisputes
    function verdict(uint256 disputeId, bool guilty, uint256[] calldata signers, bytes calldata signature) external {
        Dispute storage d = _openDispute(disputeId);
        require(block.timestamp <= d.deadline, DeadlinePassed(d.deadline));
        bool quorum = _parts.verifiers
            .verifyQuorum(VERDICT_PURPOSE, address(this), d.epoch, verdictPayload(disputeId, guilty), signers, signature, d.challenger);
        require(quorum, NoQuorum());
        uint256 paid = _payJudges(d, signers);
        uint256 rest = d.parameters.bond - paid;
        uint128 slashed;
        if (guilty) {
            owed[d.challenger] += rest;
            slashed = _convict(d);
        } else {
            owed[d.provider] += rest;
            _close(d);
        }
        d.status = guilty ? Status.Guilty : Status.Innocent;
        emit DisputeClosed(_next(), disputeId, d.provider, d.status, slashed, guilty ? d.refundAmount : 0, paid);
    }

    /// @inheritdoc IDisputes
    function expire(uint256 disputeId) external {
        Dispute storage d = _openDispute(disputeId);
        require(block.timestamp > d.deadline, DeadlineNotPassed(d.deadline));
        evidenceClosed[d.evidenceId] = false;
        owed[d.challenger] += d.parameters.bond;
        _close(d);
        d.status = Status.Expired;
        emit DisputeClosed(_next(), disputeId, d.provider, Status.Expired, 0, 0, 0);
    }

    /// @inheritdoc IDisputes
    function withdraw() external returns (uint256 amount) {
        amount = owed[msg.sender];
        require(amount != 0, NothingOwed());
        owed[msg.sender] = 0;
        ledger -= amount;
        emit Paid(_next(), msg.sender, amount);
        _parts.token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IDisputes
    function setParameters(Parameters calldata parameters_) external restricted {
        _set(parameters_);
    }

    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @inheritdoc IDisputes
    function dispute(uint256 disputeId) external view returns (Dispute memory) {
        return _disputes[disputeId];
    }

    /// @inheritdoc IDisputes
    function disputeCount() external view returns (uint256) {
        return _disputes.length;
    }

    /// @inheritdoc IDisputes
    function verdictPayload(uint256 disputeId, bool guilty) public view returns (bytes32) {
        return keccak256(abi.encode(disputeId, _disputes[disputeId].evidenceId, guilty));
    }

    function _convict(Dispute storage d) private returns (uint128 slashed) {
        uint256 amount = _slashAmount(d);
        bool slashable = d.frozen != 0;
        _close(d);
        if (slashable) {
            slashed = _parts.staking.slash(d.provider, uint128(amount), d.challenger, d.parameters.challengerBps);
            _parts.registry.jail(d.provider);
            _parts.log.resetRecord(d.provider);
        }
        _parts.settlement.refund(d.provider, d.payer, d.refundAmount);
    }

    /// @dev Ends the freeze and lets payouts flow again.
    function _close(Dispute storage d) private {
        --openAgainst[d.provider];
        uint256 frozen = Math.min(d.frozen, _parts.staking.accountOf(d.provider).frozen);
        if (frozen != 0) _parts.staking.unfreeze(d.provider, uint128(frozen));
    }

    /// @dev Equal shares, rounded down; what the rounding leaves stays with the bond's winner.
    function _payJudges(Dispute storage d, uint256[] calldata signers) private returns (uint256 paid) {
        uint256 share = d.parameters.judgesFee / signers.length;
        for (uint256 i; i < signers.length; ++i) {
            owed[_parts.verifiers.member(signers[i]).verifier] += share;
        }
        return share * signers.length;
    }

    function _slashAmount(Dispute storage d) private view returns (uint256) {
        (uint256 judges,) = _parts.verifiers.remaining(d.epoch, d.challenger);
        uint16 bps = judges < SMALL_NETWORK ? d.parameters.smallNetworkSlashBps : d.parameters.slashBps;
        return Math.mulDiv(_parts.staking.slashable(d.provider), bps, 10_000);
    }

    function _openDispute(uint256 disputeId) private view returns (Dispute storage d) {
        require(disputeId < _disputes.length && _disputes[disputeId].status == Status.Open, NotOpen(disputeId));
        return _disputes[disputeId];
    }

    function _set(Parameters memory p) private {
        bool sane = p.judgesFee <= p.bond && p.slashBps <= 10_000 && p.smallNetworkSlashBps <= 500 && p.challengerBps <= 5_000
            && p.verdictPeriod != 0;
        require(sane, BadParameters());
        _parameters = p;
        emit ParametersSet(_next(), p);
    }
}
