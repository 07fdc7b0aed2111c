// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {Ledgered} from "../access/Sequenced.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {IPins} from "../interfaces/IPins.sol";
import {IPlants} from "../interfaces/IPlants.sol";
import {IStaking} from "../interfaces/IStaking.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";
import {ReceiptLib} from "../libraries/ReceiptLib.sol";
import {FuncToken} from "../token/FuncToken.sol";

/// @notice Documented in IPlants.
contract Plants is IPlants, Ledgered, AccessManaged {
    using SafeERC20 for FuncToken;

    bytes32 public constant DUTY_PURPOSE = "DUTY";

    /// @notice The contracts that a plant reads or moves.
    struct Wiring {
        FuncToken token;
        IStaking staking;
        ICommitmentLog log;
        IVerifierSet verifiers;
        IPins pins;
        IDisputes disputes;
    }

    FuncToken public immutable token;
    IStaking public immutable staking;
    ICommitmentLog public immutable log;
    IVerifierSet public immutable verifiers;
    IPins public immutable pins;
    IDisputes public immutable disputes;

    Terms private _terms;
    mapping(bytes32 hash => Plant) private _plants;
    mapping(bytes32 hash => mapping(address verifier => uint64)) private _askedAt;
    mapping(bytes32 hash => mapping(address verifier => Answer)) private _answers;
    mapping(address verifier => Record) private _records;

    constructor(address authority, Wiring memory w, Terms memory terms_) AccessManaged(authority) {
        require(terms_.bounty != 0 && terms_.fine != 0 && terms_.answerWindow != 0, BadTerms());
        token = w.token;
        staking = w.staking;
        log = w.log;
        verifiers = w.verifiers;
        pins = w.pins;
        disputes = w.disputes;
        _terms = terms_;
    }

    /// @inheritdoc IPlants
    function note(bytes32 hash) external restricted {
        Plant storage p = _plants[hash];
        require(p.notedAt == 0, AlreadyNoted(hash));
        (p.planter, p.notedAt) = (msg.sender, uint64(block.timestamp));
        uint96 bounty = _terms.bounty;
        _owed += bounty;
        emit PlantNoted(_next(), hash, msg.sender);
        token.safeTransferFrom(msg.sender, address(this), bounty);
    }

    /// @inheritdoc IPlants
    function reveal(IDisputes.Claim calldata claim, bytes32 salt, bytes calldata consent) external {
        ReceiptLib.Receipt calldata r = claim.receipt;
        bytes32 hash = hashOf(salt, r.provider, r.payer);
        Plant storage p = _plants[hash];
        require(p.planter != address(0), NotNoted(hash));
        _requireConsent(hash, r.payer, consent);
        bytes32 leaf = ReceiptLib.leaf(r);
        bool again = p.revealedAt != 0;
        require(!again || p.leaf == leaf, AnotherReceipt(hash));
        if (!again) _open(p, claim, leaf);
        address challenger = disputes.callOff(disputes.evidenceIdOf(claim));
        uint96 bounty = again ? 0 : _terms.bounty;
        _owed -= bounty;
        emit PlantRevealed(_next(), hash, r.provider, r.number, challenger, bounty);
        token.safeTransfer(challenger, bounty);
    }

    /// @inheritdoc IPlants
    function withdraw(bytes32 hash) external {
        Plant storage p = _plants[hash];
        require(msg.sender == p.planter, NotPlanter(msg.sender));
        require(p.revealedAt == 0, AnotherReceipt(hash));
        uint64 until = p.notedAt + _terms.lifetime;
        require(block.timestamp > until, NotYet(until));
        // The hash stays noted, so that it cannot be noted anew and seem older than it is.
        p.planter = address(0);
        uint96 bounty = _terms.bounty;
        _owed -= bounty;
        emit PlantWithdrawn(_next(), hash);
        token.safeTransfer(msg.sender, bounty);
    }

    /// @inheritdoc IPlants
    function answer(bytes32 hash, uint256 seat, bytes calldata dutySignature, Result calldata result, bytes32[] calldata proof) external {
        (Plant memory p, address verifier, uint96 weight) = _unanswered(hash, seat);
        bool signed = verifiers.verifySeat(DUTY_PURPOSE, address(verifiers), p.epoch, log.tip(p.epoch), seat, dutySignature);
        require(signed, BadDutySignature(p.epoch, seat));
        uint256 total = verifiers.totalWeight(p.epoch);
        if (!pins.isDrawn(dutySignature, p.provider, p.batchId, p.leaf, p.auditRate, weight, total)) {
            return _enter(hash, verifier, Answer.NotDrawn);
        }
        bool same = result.provider == p.provider && result.batchId == p.batchId && result.number == p.number;
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(result))));
        bytes32 root = keccak256(abi.encode(keccak256(dutySignature), MerkleProof.processProofCalldata(proof, leaf)));
        require(same && root == verifiers.dutyRoot(p.epoch, verifier), WrongResult());
        if (result.verdict == Verdict.Fail || result.verdict == Verdict.Withheld) return _enter(hash, verifier, Answer.Found);
        _enter(hash, verifier, result.verdict == Verdict.Inconclusive ? Answer.Undecided : Answer.Passed);
    }

    /// @inheritdoc IPlants
    function ask(bytes32 hash, uint256 seat) external {
        (Plant memory p, address verifier,) = _unanswered(hash, seat);
        require(msg.sender == p.planter, NotPlanter(msg.sender));
        require(_askedAt[hash][verifier] == 0, AlreadyAsked(verifier));
        uint64 window = _terms.answerWindow;
        require(block.timestamp <= p.revealedAt + window, WindowOver(p.revealedAt + window));
        // Who posted no root has no pay, and nothing that it could have said wrongly.
        require(verifiers.dutyRoot(p.epoch, verifier) != 0, NotOnDuty(verifier, p.epoch));
        _askedAt[hash][verifier] = uint64(block.timestamp);
        emit VerifierAsked(_next(), hash, verifier, uint64(block.timestamp) + window);
    }

    /// @inheritdoc IPlants
    function close(bytes32 hash, uint256 seat) external {
        (, address verifier,) = _unanswered(hash, seat);
        uint64 askedAt = _askedAt[hash][verifier];
        uint64 until = askedAt + _terms.answerWindow;
        require(askedAt != 0 && block.timestamp > until, NotYet(until));
        _enter(hash, verifier, Answer.Silent);
    }

    /// @inheritdoc IPlants
    function hashOf(bytes32 salt, address provider, address payer) public pure returns (bytes32) {
        return keccak256(abi.encode(salt, provider, payer));
    }

    /// @inheritdoc IPlants
    function consentTo(bytes32 hash) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), hash));
    }

    /// @inheritdoc IPlants
    function plant(bytes32 hash) external view returns (Plant memory) {
        return _plants[hash];
    }

    /// @inheritdoc IPlants
    function terms() external view returns (Terms memory) {
        return _terms;
    }

    /// @inheritdoc IPlants
    function answerOf(bytes32 hash, address verifier) external view returns (Answer) {
        return _answers[hash][verifier];
    }

    /// @inheritdoc IPlants
    function recordOf(address verifier) external view returns (Record memory) {
        return _records[verifier];
    }

    function _open(Plant storage p, IDisputes.Claim calldata claim, bytes32 leaf) private {
        ICommitmentLog.Anchor memory b = log.batch(claim.receipt.provider, claim.batchId);
        // The dispute is bound to the root and not to the batch's number.
        require(b.root == claim.root, NotAnchored());
        require(p.notedAt < b.anchoredAt, NotedTooLate(p.notedAt, b.anchoredAt));
        (p.provider, p.revealedAt) = (claim.receipt.provider, uint64(block.timestamp));
        (p.batchId, p.number, p.epoch, p.auditRate) = (claim.batchId, claim.receipt.number, b.epoch, b.auditRate);
        p.leaf = leaf;
    }

    function _requireConsent(bytes32 hash, address payer, bytes calldata consent) private view {
        (address signer, ECDSA.RecoverError fault,) =
            ECDSA.tryRecoverCalldata(MessageHashUtils.toEthSignedMessageHash(consentTo(hash)), consent);
        require(fault == ECDSA.RecoverError.NoError && signer == payer, NoConsent(payer));
    }

    /// @dev An opened plant, and who sits at `seat` of its epoch and has not answered for it.
    function _unanswered(bytes32 hash, uint256 seat) private view returns (Plant memory p, address verifier, uint96 weight) {
        p = _plants[hash];
        require(p.revealedAt != 0, NotRevealed(hash));
        (verifier, weight) = verifiers.seatAt(verifiers.setOf(p.epoch), seat);
        require(verifier != address(0), NotOnDuty(verifier, p.epoch));
        require(_answers[hash][verifier] == Answer.None, AlreadyAnswered(verifier));
    }

    function _enter(bytes32 hash, address verifier, Answer given) private {
        _answers[hash][verifier] = given;
        uint96 fined;
        if (_failed(_records[verifier], given)) fined = staking.slash(verifier, _terms.fine, verifier, 0);
        emit PlantAnswered(_next(), hash, verifier, given, fined);
    }

    /// @dev Counts an answer; whether it is fined.
    function _failed(Record storage r, Answer given) private returns (bool) {
        if (given == Answer.NotDrawn) return false;
        ++r.drawn;
        if (given == Answer.Found) {
            ++r.found;
            if (r.debt != 0) --r.debt;
            return false;
        }
        if (given == Answer.Undecided) {
            ++r.undecided;
            if (r.debt == _terms.spared) return true;
            ++r.debt;
            return false;
        }
        ++r.missed;
        return true;
    }
}
