// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputes} from "./IDisputes.sol";

/// @title Plants: faults on purpose, by which the verifiers are checked
/// @notice A planter notes a hash; after that a provider who was told of it serves one job of the named payer with a fault, and anchors it like any
/// other. Once judges have convicted the receipt, the hash is opened: the dispute is called off, its challenger takes the bounty, and every
/// verifier that the lottery drew for the receipt answers for what its duty root says of it. Passing it costs stake, and so does deciding nothing too often.
/// @dev Assumptions: a payer consents by signature, so a plant shields no lie to anybody else; the hash is noted strictly before the batch is
/// anchored, so it is no way out for a lie that was found; a committee has convicted, so a fault too small to find costs nobody anything. Batches,
/// tips and duty roots are kept longer than a dispute and two answer windows.
interface IPlants {
    enum Verdict {
        None,
        Pass,
        Inconclusive,
        Fail,
        Withheld
    }

    /// @notice What a verifier's duty root says of a plant. Silent: it was asked and did not show.
    enum Answer {
        None,
        NotDrawn,
        Found,
        Undecided,
        Passed,
        Silent
    }

    /// @notice One check as it stands in a duty root: `root = keccak256(abi.encode(keccak256(signature), treeRoot))`, with the tree over
    /// `keccak256(keccak256(abi.encode(result)))` in sorted pairs.
    struct Result {
        address provider;
        uint64 batchId;
        uint64 number;
        Verdict verdict;
        bytes32 commitment;
        bytes32 opening;
    }

    /// @param bounty for whoever challenged the planted receipt
    /// @param fine from the stake of a verifier that passed it or does not show what it said, or leaves too many undecided
    /// @param answerWindow for the planter to ask, and from then on for the verifier to answer
    /// @param lifetime after which an unopened plant's bounty goes back
    /// @param spared how many plants a verifier may leave undecided that no found one has made up for: who cannot check some stages has to find the
    /// faults of others
    struct Terms {
        uint96 bounty;
        uint96 fine;
        uint64 answerWindow;
        uint64 lifetime;
        uint32 spared;
    }

    /// @param revealedAt zero until it is opened
    struct Plant {
        address planter;
        uint64 notedAt;
        address provider;
        uint64 revealedAt;
        uint64 batchId;
        uint64 number;
        uint64 epoch;
        uint32 auditRate;
        bytes32 leaf;
    }

    /// @notice How a verifier did on the plants that it was drawn for.
    /// @param debt undecided ones that no later found one has made up for; at `spared` the next is fined
    struct Record {
        uint32 drawn;
        uint32 found;
        uint32 undecided;
        uint32 missed;
        uint32 debt;
    }

    error BadTerms();
    error AlreadyNoted(bytes32 hash);
    error NotNoted(bytes32 hash);
    error NotRevealed(bytes32 hash);
    error AnotherReceipt(bytes32 hash);
    error NotedTooLate(uint64 notedAt, uint64 anchoredAt);
    error NotAnchored();
    error NoConsent(address payer);
    error NotPlanter(address caller);
    error NotYet(uint64 at);
    error WindowOver(uint64 at);
    error NotOnDuty(address verifier, uint64 epoch);
    error AlreadyAsked(address verifier);
    error AlreadyAnswered(address verifier);
    error BadDutySignature(uint64 epoch, uint256 seat);
    error WrongResult();

    event PlantNoted(uint64 sequence, bytes32 indexed hash, address indexed planter);
    event PlantRevealed(uint64 sequence, bytes32 indexed hash, address indexed provider, uint64 number, address challenger, uint256 bounty);
    event PlantWithdrawn(uint64 sequence, bytes32 indexed hash);
    event VerifierAsked(uint64 sequence, bytes32 indexed hash, address indexed verifier, uint64 until);
    event PlantAnswered(uint64 sequence, bytes32 indexed hash, address indexed verifier, Answer answer, uint256 fined);

    /// @notice Notes a plant, `hash = hashOf(salt, provider, payer)`, and takes its bounty. Planters only.
    function note(bytes32 hash) external;

    /// @notice Opens a plant whose receipt was convicted, before the verdict is carried out. Anybody who knows salt and consent may: the provider
    /// does not depend on the planter. Again for another dispute over the same receipt.
    function reveal(IDisputes.Claim calldata claim, bytes32 salt, bytes calldata consent) external;

    /// @notice Gives the bounty of a plant that was not opened within its lifetime back to its planter.
    function withdraw(bytes32 hash) external;

    /// @notice Shows what the verifier at `seat` of the plant's epoch has in its duty root for the planted receipt, or that it was not drawn.
    /// `result` and `proof` count only where it was. Anybody may.
    function answer(bytes32 hash, uint256 seat, bytes calldata dutySignature, Result calldata result, bytes32[] calldata proof) external;

    /// @notice Asks the verifier at `seat` to show its answer. Its planter only, within the window.
    function ask(bytes32 hash, uint256 seat) external;

    /// @notice Fines a verifier that was asked and did not show within the window. Anybody may.
    function close(bytes32 hash, uint256 seat) external;

    function hashOf(bytes32 salt, address provider, address payer) external pure returns (bytes32);

    /// @notice What a payer signs (EIP-191) to let a job of its own be planted.
    function consentTo(bytes32 hash) external view returns (bytes32);

    function plant(bytes32 hash) external view returns (Plant memory);

    function terms() external view returns (Terms memory);

    function answerOf(bytes32 hash, address verifier) external view returns (Answer);

    function recordOf(address verifier) external view returns (Record memory);
}
