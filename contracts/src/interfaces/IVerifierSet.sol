// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Verifiers, their keys by epoch, committees and duties
/// @notice A set of keys and weights counts from the second epoch after it was built, so the set of an epoch is known one full epoch ahead.
/// @dev Assumptions: a verifier's stake sits in Staking under the same address; the keys and weights of a set sit in one SSTORE2 blob, which holds
/// MAX_MEMBERS; a key has passed its proof of possession before it is ever added. Who draws a committee chooses the block, and so has some say in
/// it: an appeal goes to the full set.
interface IVerifierSet {
    /// @param keyBlob where the packed key is stored
    /// @param joined whether the next set will hold it
    struct Member {
        address keyBlob;
        bool joined;
        string endpoint;
    }

    /// @param weight the verifier's own stake when the set was built
    /// @param publicKey 256 bytes, as EIP-2537 encodes a point of G2
    struct Seat {
        address verifier;
        uint96 weight;
        bytes publicKey;
        string endpoint;
    }

    /// @notice Who may judge: seats of a set, as bits.
    struct Panel {
        uint32 setId;
        uint112 seats;
    }

    error StakeBelowMinimum(uint256 has, uint256 needs);
    error AlreadyMember(address verifier);
    error SetFull(uint256 limit);
    error KeyTaken();
    error BadProofOfPossession();
    error NotMember(address verifier, uint64 epoch);
    error DutiesClosed(uint64 epoch);
    error AlreadyPosted(address verifier, uint64 epoch);
    error ZeroRoot();
    error EmptySet();

    event VerifierRegistered(uint64 sequence, address indexed verifier, bytes publicKey, string endpoint);
    event VerifierExited(uint64 sequence, address indexed verifier);
    event SetBuilt(uint64 sequence, uint32 indexed setId, uint64 fromEpoch, address[] verifiers, uint96[] weights);
    event CommitteeDrawn(uint64 sequence, uint64 indexed epoch, uint32 setId, uint112 seats);
    event DutiesPosted(uint64 sequence, address indexed verifier, uint64 indexed epoch, bytes32 root, uint32 count);

    /// @notice Joins with a G2 key and its signature on (purpose, chain, contract, verifier, key). Counts once a set is built.
    function register(bytes calldata publicKey, bytes calldata proofOfPossession, string calldata endpoint) external;

    /// @notice Leaves, with the next set that is built.
    function exit() external;

    /// @notice Builds the set that counts from the epoch after the next: all members whose stake suffices, by their stake. Anybody may.
    function buildSet() external returns (uint32 setId);

    /// @notice Draws the current epoch's committee from its set, where none is drawn yet, and returns it. A small set is its own committee.
    function drawCommittee() external returns (uint112 seats);

    /// @notice Posts the root over the caller's signature and results of a closed epoch, once, while its duties are open. `seat` is the caller's
    /// in that epoch's set.
    function postDuties(uint64 epoch, uint256 seat, bytes32 root, uint32 count) external;

    function currentEpoch() external view returns (uint64);

    /// @notice The second at which `epoch` begins.
    function epochStart(uint64 epoch) external view returns (uint64);

    /// @notice Whether duties of `epoch` may still be posted, or the epoch still runs.
    function dutiesOpen(uint64 epoch) external view returns (bool);

    /// @notice Whether an epoch is over or running, and its keys still count for quorums.
    function isRecent(uint64 epoch) external view returns (bool);

    /// @notice The number of the set that counts in `epoch`, from 1; zero where there is none.
    function setOf(uint64 epoch) external view returns (uint32 setId);

    /// @notice The seats of `epoch`'s set, in order.
    function seatsOf(uint64 epoch) external view returns (Seat[] memory);

    function seatAt(uint32 setId, uint256 seat) external view returns (address verifier, uint96 weight);

    /// @notice Sum of the weights of `epoch`'s set.
    function totalWeight(uint64 epoch) external view returns (uint256);

    /// @notice All seats of `epoch`'s set but `excluded`'s.
    function fullPanel(uint64 epoch, address excluded) external view returns (Panel memory);

    /// @notice The drawn committee of `epoch`, or the full set where it is no larger than a committee, without `excluded`.
    function committeePanel(uint64 epoch, address excluded) external view returns (Panel memory);

    function memberOf(address verifier) external view returns (Member memory);

    /// @notice Whether the newest set leaves out a member that joined, or holds one that left.
    function needsBuild() external view returns (bool);

    function dutyRoot(uint64 epoch, address verifier) external view returns (bytes32);

    function dutyRootsPosted(uint64 epoch) external view returns (uint32);

    /// @notice The bytes that a member signs: purpose, chain, the contract it is for, epoch and payload.
    function messageFor(bytes32 purpose, address target, uint64 epoch, bytes32 payload) external view returns (bytes memory);

    /// @notice Whether the panel without `absent` (seats of it, strictly increasing) signed the payload and makes a quorum: all of it while it is
    /// smaller than SMALL_NETWORK, else two thirds of its weight. Never reverts on malformed signatures; returns who signed.
    function verifyQuorum(
        bytes32 purpose,
        address target,
        uint64 epoch,
        bytes32 payload,
        Panel calldata panel,
        uint256[] calldata absent,
        bytes calldata signature
    ) external view returns (bool ok, uint112 signed);

    /// @notice Whether the verifier at `seat` of `epoch`'s set signed the payload.
    function verifySeat(bytes32 purpose, address target, uint64 epoch, bytes32 payload, uint256 seat, bytes calldata signature)
        external
        view
        returns (bool);

    function SMALL_NETWORK() external view returns (uint256);
}
