// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Sequenced} from "../access/Sequenced.sol";
import {IStaking} from "../interfaces/IStaking.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";
import {BLS12381} from "../libraries/BLS12381.sol";

/// @notice Documented in IVerifierSet.
contract VerifierSet is IVerifierSet, Sequenced {
    bytes32 public constant POSSESSION_PURPOSE = "POSSESSION";
    uint256 public constant SMALL_NETWORK = 7;

    IStaking public immutable staking;
    uint128 public immutable minimumStake;
    uint64 public immutable genesis;
    uint64 public immutable epochLength;
    /// @notice Epochs after its end during which an epoch's duties may be posted.
    uint64 public immutable postingEpochs;
    /// @notice Epochs after its end during which an epoch's keys count for quorums; inside unbonding.
    uint64 public immutable keyEpochs;

    Member[] private _members;
    mapping(address verifier => uint256) private _indexPlusOne;
    mapping(bytes32 keyHash => bool) private _keyTaken;
    mapping(uint64 epoch => mapping(address verifier => bytes32)) private _dutyRoots;
    /// @inheritdoc IVerifierSet
    mapping(uint64 epoch => uint32) public dutyRootsPosted;

    constructor(IStaking staking_, uint128 minimumStake_, uint64 epochLength_, uint64 postingEpochs_, uint64 keyEpochs_) {
        staking = staking_;
        minimumStake = minimumStake_;
        genesis = uint64(block.timestamp);
        epochLength = epochLength_;
        postingEpochs = postingEpochs_;
        keyEpochs = keyEpochs_;
    }

    /// @inheritdoc IVerifierSet
    function register(bytes calldata publicKey, bytes calldata proofOfPossession, string calldata endpoint) external {
        uint256 has = staking.stakeOf(msg.sender);
        require(has >= minimumStake, StakeBelowMinimum(has, minimumStake));
        require(_indexPlusOne[msg.sender] == 0, AlreadyMember(msg.sender));
        require(!_keyTaken[keccak256(publicKey)], KeyTaken());
        bytes memory message = messageFor(POSSESSION_PURPOSE, address(this), 0, keccak256(abi.encode(msg.sender, keccak256(publicKey))));
        require(BLS12381.verify(publicKey, message, proofOfPossession), BadProofOfPossession());
        _keyTaken[keccak256(publicKey)] = true;
        uint64 activeFrom = currentEpoch() + 2;
        _members.push(Member(msg.sender, activeFrom, type(uint64).max, uint128(has), endpoint, publicKey));
        _indexPlusOne[msg.sender] = _members.length;
        emit VerifierRegistered(_next(), msg.sender, _members.length - 1, publicKey, uint128(has), activeFrom, endpoint);
    }

    /// @inheritdoc IVerifierSet
    function exit() external {
        uint64 epoch = currentEpoch();
        uint256 index = _indexPlusOne[msg.sender];
        require(index != 0 && _members[index - 1].activeUntil == type(uint64).max, NotMember(msg.sender, epoch));
        _members[index - 1].activeUntil = epoch + 2;
        emit VerifierExited(_next(), msg.sender, epoch + 2);
    }

    /// @inheritdoc IVerifierSet
    function postDuties(uint64 epoch, bytes32 root, uint32 count) external {
        require(isActive(msg.sender, epoch), NotMember(msg.sender, epoch));
        require(epoch < currentEpoch() && dutiesOpen(epoch), DutiesClosed(epoch));
        require(root != 0, ZeroRoot());
        require(_dutyRoots[epoch][msg.sender] == 0, AlreadyPosted(msg.sender, epoch));
        _dutyRoots[epoch][msg.sender] = root;
        ++dutyRootsPosted[epoch];
        emit DutiesPosted(_next(), msg.sender, epoch, root, count);
    }

    /// @inheritdoc IVerifierSet
    function currentEpoch() public view returns (uint64) {
        return (uint64(block.timestamp) - genesis) / epochLength;
    }

    /// @inheritdoc IVerifierSet
    function epochStart(uint64 epoch) external view returns (uint64) {
        return genesis + epoch * epochLength;
    }

    /// @inheritdoc IVerifierSet
    function dutiesOpen(uint64 epoch) public view returns (bool) {
        return currentEpoch() <= epoch + postingEpochs;
    }

    /// @inheritdoc IVerifierSet
    function isRecent(uint64 epoch) external view returns (bool) {
        uint64 current = currentEpoch();
        return epoch <= current && current <= epoch + keyEpochs;
    }

    /// @inheritdoc IVerifierSet
    function memberCount() external view returns (uint256) {
        return _members.length;
    }

    /// @inheritdoc IVerifierSet
    function member(uint256 index) external view returns (Member memory) {
        return _members[index];
    }

    /// @inheritdoc IVerifierSet
    function isActive(address verifier, uint64 epoch) public view returns (bool) {
        uint256 index = _indexPlusOne[verifier];
        return index != 0 && _counts(_members[index - 1], epoch);
    }

    /// @inheritdoc IVerifierSet
    function dutyRoot(uint64 epoch, address verifier) external view returns (bytes32) {
        return _dutyRoots[epoch][verifier];
    }

    /// @inheritdoc IVerifierSet
    function messageFor(bytes32 purpose, address target, uint64 epoch, bytes32 payload) public view returns (bytes memory) {
        return abi.encode(purpose, block.chainid, target, epoch, payload);
    }

    /// @inheritdoc IVerifierSet
    function verifyQuorum(
        bytes32 purpose,
        address target,
        uint64 epoch,
        bytes32 payload,
        uint256[] calldata signers,
        bytes calldata signature,
        address excluded
    ) external view returns (bool) {
        (bool ok, bytes memory key) = _aggregate(epoch, signers, excluded);
        return ok && BLS12381.verify(key, messageFor(purpose, target, epoch, payload), signature);
    }

    /// @inheritdoc IVerifierSet
    function remaining(uint64 epoch, address excluded) public view returns (uint256 count, uint256 weight) {
        for (uint256 i; i < _members.length; ++i) {
            Member storage m = _members[i];
            if (!_counts(m, epoch) || m.verifier == excluded) continue;
            ++count;
            weight += m.weight;
        }
    }

    /// @dev The signers' aggregate key, and whether they are distinct members of the epoch that make a quorum.
    function _aggregate(uint64 epoch, uint256[] calldata signers, address excluded) private view returns (bool ok, bytes memory key) {
        (uint256 count, uint256 total) = remaining(epoch, excluded);
        if (signers.length == 0 || signers.length > count) return (false, "");
        uint256 weight;
        for (uint256 i; i < signers.length; ++i) {
            if (signers[i] >= _members.length || (i != 0 && signers[i] <= signers[i - 1])) return (false, "");
            Member storage m = _members[signers[i]];
            if (!_counts(m, epoch) || m.verifier == excluded) return (false, "");
            weight += m.weight;
            (ok, key) = i == 0 ? (true, m.publicKey) : BLS12381.addKeys(key, m.publicKey);
            if (!ok) return (false, "");
        }
        ok = count < SMALL_NETWORK ? signers.length == count : weight * 3 >= total * 2;
    }

    function _counts(Member storage m, uint64 epoch) private view returns (bool) {
        return m.activeFrom <= epoch && epoch < m.activeUntil;
    }
}
