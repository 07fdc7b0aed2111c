// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReceiptLib} from "../libraries/ReceiptLib.sol";

/// @title Disputes
/// @notice A bonded challenge of an anchored receipt, judged by the verifiers of the epoch in which it opened, without the challenger.
/// @dev Assumptions: one round here; appeals come later. Judges are paid equally for either verdict, from the challenger's bond and never from a
/// slash. Only a verdict closes an evidence id.
interface IDisputes {
    enum Kind {
        None,
        Output,
        Tokens,
        Withheld
    }

    enum Status {
        None,
        Open,
        Guilty,
        Innocent,
        Expired
    }

    /// @notice Copied into each dispute when it opens, so a change never touches an open one.
    struct Parameters {
        uint128 bond;
        uint128 judgesFee;
        uint16 slashBps;
        uint16 smallNetworkSlashBps;
        uint16 challengerBps;
        uint64 disputeWindow;
        uint64 verdictPeriod;
    }

    struct Dispute {
        address provider;
        address challenger;
        address payer;
        uint64 batchId;
        uint64 receiptNumber;
        bytes32 jobId;
        bytes32 modelId;
        uint16 firstLayer;
        uint16 endLayer;
        bytes32 evidenceId;
        Kind kind;
        Status status;
        uint64 epoch;
        uint64 deadline;
        uint128 refundAmount;
        uint128 frozen;
        Parameters parameters;
    }

    error BadKind();
    error NotAnchored();
    error WindowOver(uint64 at);
    error EvidenceClosed(bytes32 evidenceId);
    error NotOpen(uint256 disputeId);
    error DeadlinePassed(uint64 deadline);
    error DeadlineNotPassed(uint64 deadline);
    error NoQuorum();
    error BadParameters();
    error NothingOwed();

    event DisputeOpened(uint64 sequence, uint256 indexed disputeId, address indexed provider, address indexed challenger, Dispute dispute);
    event DisputeClosed(
        uint64 sequence,
        uint256 indexed disputeId,
        address indexed provider,
        Status status,
        uint256 slashed,
        uint256 refundOrdered,
        uint256 judgesPaid
    );
    event Paid(uint64 sequence, address indexed account, uint256 amount);
    event ParametersSet(uint64 sequence, Parameters parameters);

    /// @notice Challenges a receipt under an anchored root. Takes the bond and freezes what a slash would take.
    function open(ReceiptLib.Receipt calldata receipt, uint64 batchId, bytes32[] calldata proof, Kind kind)
        external
        returns (uint256 disputeId);

    /// @notice Carries out the committee's verdict, given its aggregate signature.
    function verdict(uint256 disputeId, bool guilty, uint256[] calldata signers, bytes calldata signature) external;

    /// @notice Ends a dispute without a quorum: the bond returns, and the evidence may be brought again.
    function expire(uint256 disputeId) external;

    /// @notice Pays what judges, challengers and accused are owed.
    function withdraw() external returns (uint256 amount);

    function setParameters(Parameters calldata parameters) external;

    function dispute(uint256 disputeId) external view returns (Dispute memory);

    function disputeCount() external view returns (uint256);

    function openAgainst(address provider) external view returns (uint256);

    function verdictPayload(uint256 disputeId, bool guilty) external view returns (bytes32);

    function owed(address account) external view returns (uint256);

    /// @notice What the contract owes, which must equal its token balance.
    function ledger() external view returns (uint256);
}
