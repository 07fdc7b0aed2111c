// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {LibBit} from "solady/utils/LibBit.sol";

import {Ledgered} from "../access/Sequenced.sol";
import {IAttendance} from "../interfaces/IAttendance.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {ISettlement} from "../interfaces/ISettlement.sol";
import {IStaking} from "../interfaces/IStaking.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";
import {ReceiptLib} from "../libraries/ReceiptLib.sol";
import {SplitLib} from "../libraries/SplitLib.sol";
import {FuncToken} from "../token/FuncToken.sol";

/// @notice Documented in IDisputes.
contract Disputes is IDisputes, Ledgered, AccessManaged {
    using SafeERC20 for FuncToken;

    bytes32 public constant VERDICT_PURPOSE = "VERDICT";
    uint16 public constant MAX_SMALL_NETWORK_SLASH_BPS = 500;
    uint16 public constant MAX_CHALLENGER_BPS = 5_000;
    uint8 public constant MAX_ATTEMPTS = 2;

    /// @notice The contracts that a dispute reads or moves.
    struct Wiring {
        FuncToken token;
        IStaking staking;
        IProviderRegistry registry;
        IModelRegistry models;
        ICommitmentLog log;
        IVerifierSet verifiers;
        ISettlement settlement;
        address contradictions;
        address plants;
        IAttendance attendance;
    }

    struct Evidence {
        uint64 disputeId;
        uint8 attempts;
    }

    /// @dev Who signed a round's verdict, and who of them has been paid.
    struct Judges {
        uint112 signed;
        uint112 paid;
        uint32 setId;
    }

    FuncToken public immutable token;
    IStaking public immutable staking;
    IProviderRegistry public immutable registry;
    IModelRegistry public immutable models;
    ICommitmentLog public immutable log;
    IVerifierSet public immutable verifiers;
    ISettlement public immutable settlement;
    address public immutable contradictions;
    address public immutable plants;
    IAttendance public immutable attendance;

    Parameters[] private _parameters;
    Dispute[] private _disputes;
    mapping(bytes32 evidenceId => Evidence) private _evidence;
    mapping(uint256 disputeId => mapping(Round => Judges)) private _judges;
    mapping(uint256 disputeId => address) public appellantOf;
    mapping(bytes32 root => mapping(bytes32 leaf => bool)) private _refunded;
    /// @inheritdoc IDisputes
    mapping(address account => uint256) public owed;

    constructor(address authority, Wiring memory w, Parameters memory parameters_) AccessManaged(authority) {
        token = w.token;
        staking = w.staking;
        registry = w.registry;
        models = w.models;
        log = w.log;
        verifiers = w.verifiers;
        settlement = w.settlement;
        contradictions = w.contradictions;
        plants = w.plants;
        attendance = w.attendance;
        _set(parameters_);
    }

    /// @inheritdoc IDisputes
    function open(ReceiptLib.Receipt calldata receipt, uint64 batchId, bytes32[] calldata proof, Kind kind)
        external
        returns (uint256 disputeId)
    {
        require(kind != Kind.None, BadKind());
        uint16 version = uint16(_parameters.length - 1);
        Parameters memory p = _parameters[version];
        Claim memory claim = Claim(receipt, batchId, _requireAnchored(receipt, batchId, proof, kind, p.disputeWindow), kind);
        _disputes.push();
        disputeId = _disputes.length;
        bytes32 evidenceId = evidenceIdOf(claim);
        _claimEvidence(evidenceId, disputeId);
        verifiers.drawCommittee();
        Dispute memory d = Dispute({
            provider: receipt.provider,
            status: Status.Open,
            round: Round.Committee,
            outcome: Outcome.None,
            deadline: uint32(block.timestamp) + p.verdictPeriod,
            epoch: uint24(verifiers.currentEpoch()),
            version: version,
            challenger: msg.sender,
            frozen: 0
        });
        // Before attestation a verdict on rows only refunds, so there is nothing to freeze; the hold keeps payouts back all the same.
        bool slashes = kind == Kind.Hidden || models.isAttested(receipt.modelId);
        d.frozen = staking.freeze(d.provider, slashes ? _slashAmount(d, p) : 0);
        _disputes[disputeId - 1] = d;
        _owed += p.bond;
        emit DisputeOpened(_next(), disputeId, d.provider, msg.sender, evidenceId, claim, d);
        token.safeTransferFrom(msg.sender, address(this), p.bond);
    }

    /// @inheritdoc IDisputes
    function verdict(bytes32 evidenceId, Outcome outcome, uint256[] calldata absent, bytes calldata signature) external {
        (uint256 disputeId, Dispute memory d) = _find(evidenceId, Status.Open);
        _requireTimely(d, outcome);
        IVerifierSet.Panel memory panel = _panel(d);
        bytes32 payload = verdictPayload(disputeId, evidenceId, d.round, outcome);
        uint112 signed = _requireQuorum(d, panel, payload, absent, signature);
        _enter(disputeId, d, panel, signed, outcome);
    }

    /// @inheritdoc IDisputes
    function appeal(bytes32 evidenceId) external {
        (uint256 disputeId, Dispute storage d) = _find(evidenceId, Status.Judged);
        require(block.timestamp <= d.deadline, DeadlinePassed(d.deadline));
        require(d.round == Round.Committee && msg.sender == _loser(d), NoAppeal(disputeId));
        Parameters storage p = _parameters[d.version];
        uint96 bond = p.appealBond;
        uint32 deadline = uint32(block.timestamp) + p.verdictPeriod;
        (d.status, d.round, d.deadline) = (Status.Open, Round.Appeal, deadline);
        appellantOf[disputeId] = msg.sender;
        _owed += bond;
        emit Appealed(_next(), disputeId, msg.sender, deadline);
        token.safeTransferFrom(msg.sender, address(this), bond);
    }

    /// @inheritdoc IDisputes
    function escalate(bytes32 evidenceId) external {
        (uint256 disputeId, Dispute storage d) = _find(evidenceId, Status.Open);
        require(d.round == Round.Committee, NoAppeal(disputeId));
        require(block.timestamp > d.deadline, DeadlineNotPassed(d.deadline));
        attendance.lapse(disputeId);
        uint32 deadline = uint32(block.timestamp) + _parameters[d.version].verdictPeriod;
        (d.round, d.deadline) = (Round.FullSet, deadline);
        emit Escalated(_next(), disputeId, deadline);
    }

    /// @inheritdoc IDisputes
    function execute(Claim calldata claim) external {
        bytes32 evidenceId = evidenceIdOf(claim);
        (uint256 disputeId, Dispute storage d) = _find(evidenceId, Status.Judged);
        Dispute memory m = d;
        require(block.timestamp > m.deadline, DeadlineNotPassed(m.deadline));
        bool innocent = m.outcome == Outcome.Innocent;
        d.status = innocent ? Status.Innocent : Status.Guilty;
        _payWinner(disputeId, m, innocent ? m.provider : m.challenger);
        uint96 slashed;
        if (!innocent && m.frozen != 0) {
            slashed = _punish(m.provider, m.frozen, m.challenger, _parameters[m.version].challengerBps);
        }
        staking.unfreeze(m.provider, m.frozen);
        uint128 refunded = innocent ? 0 : _refund(claim);
        emit DisputeClosed(_next(), disputeId, m.provider, d.status, slashed, refunded);
    }

    /// @inheritdoc IDisputes
    function expire(Claim calldata claim) external {
        bytes32 evidenceId = evidenceIdOf(claim);
        (uint256 disputeId, Dispute storage d) = _find(evidenceId, Status.Open);
        Dispute memory m = d;
        require(m.round != Round.Committee, NoAppeal(disputeId));
        require(block.timestamp > m.deadline, DeadlineNotPassed(m.deadline));
        attendance.lapse(disputeId);
        d.status = Status.Expired;
        _returnBonds(disputeId, m);
        staking.unfreeze(m.provider, m.frozen);
        emit DisputeClosed(_next(), disputeId, m.provider, Status.Expired, 0, _refund(claim));
    }

    /// @inheritdoc IDisputes
    function cancel(bytes32 evidenceId) external restricted {
        (, Dispute storage d) = _find(evidenceId, Status.Judged);
        (bool small, uint256 judges) = _isSmall(d.epoch, d.challenger);
        require(small, NotSmall(judges));
        _callOff(evidenceId);
    }

    /// @inheritdoc IDisputes
    function callOff(bytes32 evidenceId) external returns (address challenger) {
        require(msg.sender == plants, NotAllowed(msg.sender));
        return _callOff(evidenceId);
    }

    /// @inheritdoc IDisputes
    function claimFee(uint256 disputeId, Round round, uint256 seat) external {
        Judges storage j = _judges[disputeId][round];
        (address judge,) = verifiers.seatAt(j.setId, seat);
        uint112 bit = judge == msg.sender && seat < 112 ? uint112(1) << uint112(seat) : 0;
        require(j.signed & bit != 0 && j.paid & bit == 0, NotJudge(msg.sender));
        j.paid |= bit;
        uint96 share = _fee(disputeId, round) / uint96(LibBit.popCount(j.signed));
        _owed -= share;
        emit Paid(_next(), msg.sender, share);
        token.safeTransfer(msg.sender, share);
    }

    /// @inheritdoc IDisputes
    function punish(address provider, address reporter) external returns (uint96 slashed) {
        require(msg.sender == contradictions, NotAllowed(msg.sender));
        Parameters storage p = _parameters[_parameters.length - 1];
        slashed = _punish(provider, SplitLib.shareDown(uint96(staking.slashable(provider)), p.slashBps), reporter, p.challengerBps);
    }

    /// @inheritdoc IDisputes
    function withdraw() external returns (uint256 amount) {
        amount = owed[msg.sender];
        require(amount != 0, NothingOwed());
        owed[msg.sender] = 0;
        _owed -= uint96(amount);
        emit Paid(_next(), msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IDisputes
    function setParameters(Parameters calldata parameters_) external restricted {
        _set(parameters_);
    }

    /// @inheritdoc IDisputes
    function parameters() external view returns (Parameters memory) {
        return _parameters[_parameters.length - 1];
    }

    /// @inheritdoc IDisputes
    function parametersAt(uint16 version) external view returns (Parameters memory) {
        return _parameters[version];
    }

    /// @inheritdoc IDisputes
    function dispute(uint256 disputeId) external view returns (Dispute memory) {
        return _disputes[disputeId - 1];
    }

    /// @inheritdoc IDisputes
    function disputeCount() external view returns (uint256) {
        return _disputes.length;
    }

    /// @inheritdoc IDisputes
    function evidence(bytes32 evidenceId) external view returns (uint256 disputeId, uint8 attempts, bool closed) {
        Evidence memory e = _evidence[evidenceId];
        Status status = e.disputeId == 0 ? Status.None : _disputes[e.disputeId - 1].status;
        bool judged = status == Status.Guilty || status == Status.Innocent || status == Status.Cancelled;
        return (e.disputeId, e.attempts, judged);
    }

    /// @inheritdoc IDisputes
    function evidenceIdOf(Claim memory claim) public pure returns (bytes32) {
        return keccak256(abi.encode(claim.receipt.provider, claim.root, ReceiptLib.leaf(claim.receipt), claim.kind));
    }

    /// @inheritdoc IDisputes
    function verdictPayload(uint256 disputeId, bytes32 evidenceId, Round round, Outcome outcome) public pure returns (bytes32) {
        return keccak256(abi.encode(disputeId, evidenceId, round, outcome));
    }

    function _requireAnchored(ReceiptLib.Receipt calldata receipt, uint64 batchId, bytes32[] calldata proof, Kind kind, uint32 window)
        private
        view
        returns (bytes32)
    {
        ICommitmentLog.Anchor memory b = log.batch(receipt.provider, batchId);
        bytes32 leaf = ReceiptLib.leaf(receipt);
        bool named =
            kind == Kind.Hidden ? leaf == _leafOfList(receipt.provider, b.firstNumber) : MerkleProof.verifyCalldata(proof, b.root, leaf);
        require(named, NotAnchored());
        require(block.timestamp <= b.anchoredAt + window, WindowOver(b.anchoredAt + window));
        return b.root;
    }

    /// @dev What stands for a batch's whole list, so that there is one evidence id for it.
    function _leafOfList(address provider, uint64 firstNumber) private pure returns (bytes32) {
        ReceiptLib.Receipt memory blank;
        (blank.provider, blank.number) = (provider, firstNumber);
        return ReceiptLib.leaf(blank);
    }

    /// @dev Ends a dispute that went against the provider without carrying it out.
    function _callOff(bytes32 evidenceId) private returns (address) {
        (uint256 disputeId, Dispute storage d) = _find(evidenceId, Status.Judged);
        Dispute memory m = d;
        require(m.outcome != Outcome.Innocent, BadOutcome(m.outcome));
        d.status = Status.Cancelled;
        _returnBonds(disputeId, m);
        staking.unfreeze(m.provider, m.frozen);
        emit DisputeClosed(_next(), disputeId, m.provider, Status.Cancelled, 0, 0);
        return m.challenger;
    }

    /// @dev One dispute over an evidence id at a time, two at most, none after a verdict.
    function _claimEvidence(bytes32 evidenceId, uint256 disputeId) private {
        Evidence memory e = _evidence[evidenceId];
        bool free = e.disputeId == 0 || _disputes[e.disputeId - 1].status == Status.Expired;
        require(free && e.attempts < MAX_ATTEMPTS, EvidenceClosed(evidenceId));
        _evidence[evidenceId] = Evidence(uint64(disputeId), e.attempts + 1);
    }

    function _find(bytes32 evidenceId, Status wanted) private view returns (uint256 disputeId, Dispute storage d) {
        disputeId = _evidence[evidenceId].disputeId;
        require(disputeId != 0, WrongClaim(evidenceId));
        d = _disputes[disputeId - 1];
        require(d.status == wanted, WrongStatus(disputeId, d.status));
    }

    function _enter(uint256 disputeId, Dispute memory d, IVerifierSet.Panel memory panel, uint112 signed, Outcome outcome) private {
        _judges[disputeId][d.round] = Judges(signed, 0, panel.setId);
        uint32 deadline = uint32(block.timestamp) + _timeToObject(d);
        Dispute storage kept = _disputes[disputeId - 1];
        (kept.status, kept.outcome, kept.deadline) = (Status.Judged, outcome, deadline);
        emit VerdictGiven(_next(), disputeId, d.provider, d.round, outcome, signed, deadline);
    }

    function _requireTimely(Dispute memory d, Outcome outcome) private view {
        require(block.timestamp <= d.deadline, DeadlinePassed(d.deadline));
        Parameters storage p = _parameters[d.version];
        bool early = block.timestamp < d.deadline - p.verdictPeriod + p.evidencePeriod;
        require(outcome != Outcome.None && (outcome != Outcome.Withheld || !early), BadOutcome(outcome));
    }

    /// @dev For an appeal of the committee's verdict; in a small network also for governance to call off the last one.
    function _timeToObject(Dispute memory d) private view returns (uint32) {
        bool may = d.round == Round.Committee;
        if (!may) (may,) = _isSmall(d.epoch, d.challenger);
        return may ? _parameters[d.version].appealPeriod : 0;
    }

    function _requireQuorum(
        Dispute memory d,
        IVerifierSet.Panel memory panel,
        bytes32 payload,
        uint256[] calldata absent,
        bytes calldata signature
    ) private view returns (uint112 signed) {
        bool ok;
        (ok, signed) = verifiers.verifyQuorum(VERDICT_PURPOSE, address(this), d.epoch, payload, panel, absent, signature);
        require(ok, NoQuorum());
    }

    function _panel(Dispute memory d) private view returns (IVerifierSet.Panel memory) {
        return d.round == Round.Committee ? verifiers.committeePanel(d.epoch, d.challenger) : verifiers.fullPanel(d.epoch, d.challenger);
    }

    function _loser(Dispute storage d) private view returns (address) {
        return d.outcome == Outcome.Innocent ? d.challenger : d.provider;
    }

    function _slashAmount(Dispute memory d, Parameters memory p) private view returns (uint96) {
        (bool small,) = _isSmall(d.epoch, d.challenger);
        uint16 bps = small ? p.smallNetworkSlashBps : p.slashBps;
        return SplitLib.shareDown(uint96(staking.slashable(d.provider)), bps);
    }

    /// @dev Whether all of the epoch's judges must sign, and how many they are without the challenger.
    function _isSmall(uint64 epoch, address challenger) private view returns (bool small, uint256 judges) {
        judges = LibBit.popCount(verifiers.fullPanel(epoch, challenger).seats);
        small = judges < verifiers.SMALL_NETWORK();
    }

    /// @dev What a round's judges share: nothing where they gave no verdict.
    function _fee(uint256 disputeId, Round round) private view returns (uint96) {
        if (_judges[disputeId][round].signed == 0) return 0;
        Parameters storage p = _parameters[_disputes[disputeId - 1].version];
        return round == Round.Appeal ? p.appealFee : p.judgesFee;
    }

    /// @dev The winner takes what the judges leave of all bonds.
    function _payWinner(uint256 disputeId, Dispute memory d, address winner) private {
        Parameters storage p = _parameters[d.version];
        uint96 rest = p.bond - _firstFee(disputeId);
        if (d.round == Round.Appeal) rest += p.appealBond - _fee(disputeId, Round.Appeal);
        _owe(disputeId, winner, rest);
    }

    /// @dev Each bond returns to whose it was, less the fee of a verdict that was given for it.
    function _returnBonds(uint256 disputeId, Dispute memory d) private {
        Parameters storage p = _parameters[d.version];
        _owe(disputeId, d.challenger, p.bond - _firstFee(disputeId));
        if (d.round != Round.Appeal) return;
        _owe(disputeId, appellantOf[disputeId], p.appealBond - _fee(disputeId, Round.Appeal));
    }

    function _firstFee(uint256 disputeId) private view returns (uint96) {
        return _fee(disputeId, Round.Committee) + _fee(disputeId, Round.FullSet);
    }

    /// @dev A job is refunded once, however many disputes over it end that way: of other kinds, or brought again.
    function _refund(Claim calldata claim) private returns (uint128 amount) {
        ReceiptLib.Receipt calldata r = claim.receipt;
        if (r.amount == 0) return 0;
        bytes32 leaf = ReceiptLib.leaf(r);
        if (_refunded[claim.root][leaf]) return 0;
        _refunded[claim.root][leaf] = true;
        amount = r.amount;
        settlement.refund(r.provider, r.payer, r.modelId, amount);
    }

    function _punish(address provider, uint96 amount, address beneficiary, uint16 bps) private returns (uint96 slashed) {
        slashed = staking.slash(provider, amount, beneficiary, bps);
        registry.jail(provider);
        log.resetRecord(provider);
    }

    function _owe(uint256 disputeId, address account, uint96 amount) private {
        owed[account] += amount;
        emit Owed(_next(), account, disputeId, amount);
    }

    function _set(Parameters memory p) private {
        bool money = p.judgesFee <= p.bond && p.appealFee <= p.appealBond && p.appealBond >= p.bond && p.bond != 0;
        bool slashes =
            p.slashBps <= 10_000 && p.smallNetworkSlashBps <= MAX_SMALL_NETWORK_SLASH_BPS && p.challengerBps <= MAX_CHALLENGER_BPS;
        bool times = p.evidencePeriod < p.verdictPeriod && p.appealPeriod != 0 && p.disputeWindow != 0;
        require(money && slashes && times, BadParameters());
        _parameters.push(p);
        emit ParametersSet(_next(), uint16(_parameters.length - 1), p);
    }
}
