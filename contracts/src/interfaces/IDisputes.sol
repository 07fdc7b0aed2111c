// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReceiptLib} from "../libraries/ReceiptLib.sol";

/// @title Disputes
/// @notice A bonded challenge of an anchored receipt: the epoch's committee judges without the challenger, the loser may appeal once to the full
/// set, and after that the verdict is carried out. Each dispute ends, and each bond is paid exactly once.
/// @dev Assumptions: judges are paid equally for either verdict, from bonds and never from a slash. Only a verdict closes an evidence id; without a
/// quorum the same evidence may be brought once more. Parameters are those of the day it opened. None of this can be paused.
///
///   Open(committee) --verdict--> Judged --appeal--> Open(appeal) --verdict--> Judged --execute--> Guilty or Innocent
///        |  no quorum                 `--execute (appeal period over)--> Guilty or Innocent
///        `--escalate--> Open(full set) --verdict--> Judged        any Open past its deadline but the first --expire--> Expired
///   Judged in a small network --cancel (governance)--> Cancelled       Judged, of a plant --callOff (Plants)--> Cancelled
interface IDisputes {
    /// @notice What is wrong: a receipt's rows or tokens, a batch whose list of receipts nobody is shown, a receipt whose rows nobody is given.
    enum Kind {
        None,
        Output,
        Hidden,
        Withheld
    }

    enum Outcome {
        None,
        Innocent,
        Guilty,
        Withheld
    }

    enum Status {
        None,
        Open,
        Judged,
        Guilty,
        Innocent,
        Expired,
        Cancelled
    }

    /// @notice Who judges: the committee of the epoch, the full set on appeal, or the full set because the committee had no quorum.
    enum Round {
        Committee,
        Appeal,
        FullSet
    }

    /// @notice Snapshotted: a dispute runs by the version that was in force when it opened.
    /// @param evidencePeriod for the provider to serve its rows; only after it can a verdict say that they were withheld
    struct Parameters {
        uint96 bond;
        uint96 appealBond;
        uint16 slashBps;
        uint16 smallNetworkSlashBps;
        uint16 challengerBps;
        uint96 judgesFee;
        uint96 appealFee;
        uint32 disputeWindow;
        uint32 evidencePeriod;
        uint32 verdictPeriod;
        uint32 appealPeriod;
    }

    /// @notice What is disputed: a receipt, the root it is anchored under, and what is wrong with it.
    /// @param receipt of a Hidden batch nobody has one: it names the provider and the batch's first number, and is zero otherwise
    struct Claim {
        ReceiptLib.Receipt receipt;
        uint64 batchId;
        bytes32 root;
        Kind kind;
    }

    /// @param outcome of the newest verdict
    /// @param deadline for a verdict while Open; for an appeal while Judged, and execution follows it
    struct Dispute {
        address provider;
        Status status;
        Round round;
        Outcome outcome;
        uint32 deadline;
        uint24 epoch;
        uint16 version;
        address challenger;
        uint96 frozen;
    }

    error NotAllowed(address caller);
    error BadKind();
    error NotAnchored();
    error WindowOver(uint64 at);
    error EvidenceClosed(bytes32 evidenceId);
    error WrongStatus(uint256 disputeId, Status status);
    error WrongClaim(bytes32 evidenceId);
    error DeadlinePassed(uint64 deadline);
    error DeadlineNotPassed(uint64 deadline);
    error BadOutcome(Outcome outcome);
    error NoQuorum();
    error NoAppeal(uint256 disputeId);
    error NotSmall(uint256 judges);
    error NotJudge(address caller);
    error BadParameters();
    error NothingOwed();

    event DisputeOpened(
        uint64 sequence,
        uint256 indexed disputeId,
        address indexed provider,
        address indexed challenger,
        bytes32 evidenceId,
        Claim claim,
        Dispute dispute
    );
    event VerdictGiven(
        uint64 sequence, uint256 indexed disputeId, address indexed provider, Round round, Outcome outcome, uint112 signed, uint32 deadline
    );
    event Appealed(uint64 sequence, uint256 indexed disputeId, address indexed appellant, uint32 deadline);
    event Escalated(uint64 sequence, uint256 indexed disputeId, uint32 deadline);
    event DisputeClosed(
        uint64 sequence, uint256 indexed disputeId, address indexed provider, Status status, uint256 slashed, uint256 refundOrdered
    );
    event Owed(uint64 sequence, address indexed account, uint256 indexed disputeId, uint256 amount);
    event Paid(uint64 sequence, address indexed account, uint256 amount);
    event ParametersSet(uint64 sequence, uint16 version, Parameters parameters);

    /// @notice Challenges a receipt of a kept batch, or the whole batch as Hidden. Takes the bond and freezes what a slash would take.
    function open(ReceiptLib.Receipt calldata receipt, uint64 batchId, bytes32[] calldata proof, Kind kind)
        external
        returns (uint256 disputeId);

    /// @notice Enters the verdict of the round's judges: the panel without the `absent` seats signed `verdictPayload`.
    function verdict(bytes32 evidenceId, Outcome outcome, uint256[] calldata absent, bytes calldata signature) external;

    /// @notice Takes a committee's verdict to the full set, for the larger bond. The party that lost it only, within the appeal period.
    function appeal(bytes32 evidenceId) external;

    /// @notice Hands a dispute whose committee had no quorum by its deadline to the full set; the absent lose the epoch's pay (IAttendance).
    function escalate(bytes32 evidenceId) external;

    /// @notice Carries out the last verdict once no appeal is possible: slash, jail and refund, or nothing; the winner takes the bonds.
    function execute(Claim calldata claim) external;

    /// @notice Ends a dispute without a quorum of the full set: bonds return, the job is refunded, the absent lose the
    /// epoch's pay, the evidence may be brought once more.
    function expire(Claim calldata claim) external;

    /// @notice Calls off a slash of a small network before it is carried out; bonds return. Governance only; nobody can impose one.
    function cancel(bytes32 evidenceId) external;

    /// @notice Calls off a verdict against a provider whose fault was planted; bonds return. Plants only.
    function callOff(bytes32 evidenceId) external returns (address challenger);

    /// @notice Pays the caller its share of a round's fee: it sat at `seat` and signed.
    function claimFee(uint256 disputeId, Round round, uint256 seat) external;

    /// @notice Slashes, jails and resets at once for a fault that hashes alone prove. Contradictions only.
    function punish(address provider, address reporter) external returns (uint96 slashed);

    /// @notice Pays what winners are owed.
    function withdraw() external returns (uint256 amount);

    /// @notice Sets the parameters of disputes that open from now on, within their bounds. Governance only.
    function setParameters(Parameters calldata parameters) external;

    function parameters() external view returns (Parameters memory);

    function parametersAt(uint16 version) external view returns (Parameters memory);

    function dispute(uint256 disputeId) external view returns (Dispute memory);

    function disputeCount() external view returns (uint256);

    /// @notice The newest dispute over the evidence, from 1, and whether a verdict has closed it.
    function evidence(bytes32 evidenceId) external view returns (uint256 disputeId, uint8 attempts, bool closed);

    function evidenceIdOf(Claim calldata claim) external pure returns (bytes32);

    /// @notice What judges sign: dispute, evidence, round and outcome.
    function verdictPayload(uint256 disputeId, bytes32 evidenceId, Round round, Outcome outcome) external pure returns (bytes32);

    function owed(address account) external view returns (uint256);
}
