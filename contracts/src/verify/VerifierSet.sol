// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {LibBit} from "solady/utils/LibBit.sol";
import {SSTORE2} from "solady/utils/SSTORE2.sol";

import {Guarded} from "../access/Guarded.sol";
import {IStaking} from "../interfaces/IStaking.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";
import {BLS12381} from "../libraries/BLS12381.sol";

/// @notice Documented in IVerifierSet.
contract VerifierSet is IVerifierSet, Guarded {
    bytes32 public constant POSSESSION_PURPOSE = "POSSESSION";
    bytes32 public constant DUTY_PURPOSE = "DUTY";
    uint256 public constant SMALL_NETWORK = 7;
    /// @notice What one blob holds.
    uint256 public constant MAX_MEMBERS = 108;
    uint256 private constant SEAT_BYTES = 20 + 12 + BLS12381.PACKED_G2_BYTES;
    /// @dev A blob begins with the sum of all keys and of all weights.
    uint256 private constant HEADER_BYTES = BLS12381.PACKED_G2_BYTES + 12;

    struct Times {
        uint64 epochLength;
        uint64 postingEpochs;
        uint64 keyEpochs;
    }

    struct Set {
        address blob;
        uint64 fromEpoch;
        uint32 count;
    }

    IStaking public immutable staking;
    uint128 public immutable minimumStake;
    uint64 public immutable genesis;
    uint64 public immutable epochLength;
    /// @notice Epochs after its end during which an epoch's duties may be posted.
    uint64 public immutable postingEpochs;
    /// @notice Epochs after its end during which an epoch's keys count for quorums; inside unbonding.
    uint64 public immutable keyEpochs;
    uint64 public immutable committeeSize;

    /// @inheritdoc IVerifierSet
    bool public needsBuild;
    Set[] private _sets;
    address[] private _joined;
    mapping(address verifier => Member) private _members;
    mapping(bytes32 keyHash => bool) private _keyTaken;
    mapping(uint64 epoch => uint112) private _committees;
    mapping(uint64 epoch => mapping(address verifier => bytes32)) private _dutyRoots;
    /// @inheritdoc IVerifierSet
    mapping(uint64 epoch => uint32) public dutyRootsPosted;

    constructor(address authority, IStaking staking_, uint128 minimumStake_, Times memory times, uint64 committeeSize_)
        AccessManaged(authority)
    {
        staking = staking_;
        minimumStake = minimumStake_;
        genesis = uint64(block.timestamp);
        epochLength = times.epochLength;
        postingEpochs = times.postingEpochs;
        keyEpochs = times.keyEpochs;
        committeeSize = committeeSize_;
    }

    /// @inheritdoc IVerifierSet
    function register(bytes calldata publicKey, bytes calldata proofOfPossession, string calldata endpoint) external whenOpen {
        uint256 has = staking.stakeOf(msg.sender);
        require(has >= minimumStake, StakeBelowMinimum(has, minimumStake));
        require(_members[msg.sender].keyBlob == address(0), AlreadyMember(msg.sender));
        require(_joined.length < MAX_MEMBERS, SetFull(MAX_MEMBERS));
        bytes32 keyHash = keccak256(publicKey);
        require(!_keyTaken[keyHash], KeyTaken());
        bytes memory message = messageFor(POSSESSION_PURPOSE, address(this), 0, keccak256(abi.encode(msg.sender, keyHash)));
        require(BLS12381.verify(publicKey, message, proofOfPossession), BadProofOfPossession());
        _keyTaken[keyHash] = true;
        _members[msg.sender] = Member(SSTORE2.write(BLS12381.packKey(publicKey)), true, endpoint);
        _joined.push(msg.sender);
        needsBuild = true;
        emit VerifierRegistered(_next(), msg.sender, publicKey, endpoint);
    }

    /// @inheritdoc IVerifierSet
    function exit() external {
        require(_members[msg.sender].joined, NotMember(msg.sender, currentEpoch()));
        _members[msg.sender].joined = false;
        needsBuild = true;
        emit VerifierExited(_next(), msg.sender);
    }

    /// @inheritdoc IVerifierSet
    function buildSet() external returns (uint32 setId) {
        (address[] memory verifiers, uint96[] memory weights) = _takeJoined();
        require(verifiers.length != 0, EmptySet());
        uint64 fromEpoch = currentEpoch() + 2;
        Set memory s = Set(SSTORE2.write(_encode(verifiers, weights)), fromEpoch, uint32(verifiers.length));
        // Built again within an epoch, the newer set replaces the older before that has ever counted.
        if (_sets.length != 0 && _sets[_sets.length - 1].fromEpoch == fromEpoch) _sets.pop();
        _sets.push(s);
        needsBuild = false;
        setId = uint32(_sets.length);
        emit SetBuilt(_next(), setId, fromEpoch, verifiers, weights);
    }

    /// @inheritdoc IVerifierSet
    function drawCommittee() external returns (uint112 seats) {
        uint64 epoch = currentEpoch();
        uint32 setId = setOf(epoch);
        if (setId == 0) return 0;
        uint256 count = _sets[setId - 1].count;
        if (count <= committeeSize) return _all(count);
        seats = _committees[epoch];
        if (seats != 0) return seats;
        seats = _draw(keccak256(abi.encode(block.prevrandao, blockhash(block.number - 1), epoch)), count);
        _committees[epoch] = seats;
        emit CommitteeDrawn(_next(), epoch, setId, seats);
    }

    /// @inheritdoc IVerifierSet
    function postDuties(uint64 epoch, uint256 seat, bytes32 root, uint32 count) external {
        require(_isAt(epoch, seat, msg.sender), NotMember(msg.sender, epoch));
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
    function setOf(uint64 epoch) public view returns (uint32 setId) {
        for (setId = uint32(_sets.length); setId != 0; --setId) {
            if (_sets[setId - 1].fromEpoch <= epoch) return setId;
        }
    }

    /// @inheritdoc IVerifierSet
    function seatsOf(uint64 epoch) external view returns (Seat[] memory seats) {
        uint32 setId = setOf(epoch);
        if (setId == 0) return seats;
        Set memory s = _sets[setId - 1];
        bytes memory blob = SSTORE2.read(s.blob);
        seats = new Seat[](s.count);
        for (uint256 i; i < s.count; ++i) {
            (address verifier, uint96 weight) = _head(blob, HEADER_BYTES + i * SEAT_BYTES);
            bytes memory key = BLS12381.unpackKey(blob, HEADER_BYTES + i * SEAT_BYTES + 32);
            seats[i] = Seat(verifier, weight, key, _members[verifier].endpoint);
        }
    }

    /// @inheritdoc IVerifierSet
    function seatAt(uint32 setId, uint256 seat) public view returns (address verifier, uint96 weight) {
        if (setId == 0 || setId > _sets.length || seat >= _sets[setId - 1].count) return (address(0), 0);
        return _head(_seatBytes(_sets[setId - 1].blob, seat), 0);
    }

    /// @inheritdoc IVerifierSet
    function totalWeight(uint64 epoch) external view returns (uint256) {
        uint32 setId = setOf(epoch);
        return setId == 0 ? 0 : _totalWeight(SSTORE2.read(_sets[setId - 1].blob, 0, HEADER_BYTES));
    }

    /// @inheritdoc IVerifierSet
    function fullPanel(uint64 epoch, address excluded) external view returns (Panel memory panel) {
        panel.setId = setOf(epoch);
        if (panel.setId != 0) panel.seats = _without(panel.setId, _all(_sets[panel.setId - 1].count), excluded);
    }

    /// @inheritdoc IVerifierSet
    function committeePanel(uint64 epoch, address excluded) external view returns (Panel memory panel) {
        panel.setId = setOf(epoch);
        if (panel.setId == 0) return panel;
        uint256 count = _sets[panel.setId - 1].count;
        uint112 drawn = count <= committeeSize ? _all(count) : _committees[epoch];
        panel.seats = _without(panel.setId, drawn, excluded);
    }

    /// @inheritdoc IVerifierSet
    function memberOf(address verifier) external view returns (Member memory) {
        return _members[verifier];
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
        Panel calldata panel,
        uint256[] calldata absent,
        bytes calldata signature
    ) external view returns (bool ok, uint112 signed) {
        if (panel.setId == 0 || panel.setId != setOf(epoch) || panel.seats == 0) return (false, 0);
        Set memory s = _sets[panel.setId - 1];
        if (panel.seats & ~_all(s.count) != 0) return (false, 0);
        (ok, signed) = _without(panel.seats, absent);
        if (!ok) return (false, 0);
        bytes memory key;
        (ok, key) = _quorumKey(s, panel.seats, signed);
        ok = ok && BLS12381.verify(key, messageFor(purpose, target, epoch, payload), signature);
    }

    /// @inheritdoc IVerifierSet
    function verifySeat(bytes32 purpose, address target, uint64 epoch, bytes32 payload, uint256 seat, bytes calldata signature)
        external
        view
        returns (bool)
    {
        uint32 setId = setOf(epoch);
        if (setId == 0 || seat >= _sets[setId - 1].count) return false;
        bytes memory key = BLS12381.unpackKey(_seatBytes(_sets[setId - 1].blob, seat), 32);
        return BLS12381.verify(key, messageFor(purpose, target, epoch, payload), signature);
    }

    /// @dev The signers' key, and whether they make a quorum of the panel. The smaller side is summed: the signers, or all others to subtract.
    function _quorumKey(Set memory s, uint112 panel, uint112 signed) private view returns (bool ok, bytes memory key) {
        uint256 judges = LibBit.popCount(panel);
        uint256 signers = LibBit.popCount(signed);
        if (signers == 0 || (judges < SMALL_NETWORK && signers != judges)) return (false, "");
        bool subtract = signers * 2 > s.count;
        uint256 absentWeight;
        uint256 weight;
        if (subtract) {
            bytes memory others;
            uint256 othersWeight;
            (ok, others, othersWeight, absentWeight) = _sum(s.blob, _all(s.count) & ~signed, panel);
            bytes memory header = SSTORE2.read(s.blob, 0, HEADER_BYTES);
            key = BLS12381.unpackKey(header, 0);
            weight = _totalWeight(header) - othersWeight;
            if (ok && others.length != 0) (ok, key) = BLS12381.addKeys(key, BLS12381.negateKey(others));
        } else {
            (ok, key, weight,) = _sum(s.blob, signed, 0);
            if (judges != signers) (,,, absentWeight) = _sum(s.blob, panel & ~signed, panel);
        }
        ok = ok && weight * 3 >= (weight + absentWeight) * 2;
    }

    /// @dev Sum of the keys and weights at `seats`, and the weight of those of them that are in `counted`.
    function _sum(address blob, uint112 seats, uint112 counted)
        private
        view
        returns (bool ok, bytes memory key, uint256 weight, uint256 countedWeight)
    {
        ok = true;
        while (ok && seats != 0) {
            uint256 seat = LibBit.ffs(seats);
            seats &= seats - 1;
            bytes memory data = _seatBytes(blob, seat);
            (, uint96 own) = _head(data, 0);
            weight += own;
            if (counted >> seat & 1 == 1) countedWeight += own;
            bytes memory next = BLS12381.unpackKey(data, 32);
            if (key.length == 0) key = next;
            else (ok, key) = BLS12381.addKeys(key, next);
        }
    }

    /// @dev The panel less `absent`, and whether those were strictly increasing seats of it.
    function _without(uint112 panel, uint256[] calldata absent) private pure returns (bool ok, uint112 signed) {
        signed = panel;
        for (uint256 i; i < absent.length; ++i) {
            bool inOrder = i == 0 || absent[i] > absent[i - 1];
            if (!inOrder || absent[i] >= 112 || (panel >> absent[i]) & 1 == 0) return (false, 0);
            signed &= ~(uint112(1) << uint112(absent[i]));
        }
        ok = true;
    }

    /// @dev `seats` without the one of `excluded`, if it has one.
    function _without(uint32 setId, uint112 seats, address excluded) private view returns (uint112) {
        if (excluded == address(0) || _members[excluded].keyBlob == address(0)) return seats;
        Set memory s = _sets[setId - 1];
        bytes memory blob = SSTORE2.read(s.blob);
        for (uint256 i; i < s.count; ++i) {
            (address verifier,) = _head(blob, HEADER_BYTES + i * SEAT_BYTES);
            if (verifier == excluded) return seats & ~(uint112(1) << uint112(i));
        }
        return seats;
    }

    /// @dev Those who are to be in a set, and their weights; who left is dropped for good.
    function _takeJoined() private returns (address[] memory verifiers, uint96[] memory weights) {
        uint256 n;
        verifiers = new address[](_joined.length);
        weights = new uint96[](_joined.length);
        for (uint256 i; i < _joined.length;) {
            address verifier = _joined[i];
            if (!_members[verifier].joined) {
                _joined[i] = _joined[_joined.length - 1];
                _joined.pop();
                continue;
            }
            uint256 weight = staking.stakeOf(verifier);
            if (weight >= minimumStake) (verifiers[n], weights[n++]) = (verifier, uint96(weight));
            ++i;
        }
        assembly ("memory-safe") {
            mstore(verifiers, n)
            mstore(weights, n)
        }
    }

    function _encode(address[] memory verifiers, uint96[] memory weights) private view returns (bytes memory) {
        bytes memory body;
        bytes memory sum;
        uint96 total;
        for (uint256 i; i < verifiers.length; ++i) {
            bytes memory packed = SSTORE2.read(_members[verifiers[i]].keyBlob);
            body = bytes.concat(body, bytes20(verifiers[i]), bytes12(weights[i]), packed);
            bytes memory key = BLS12381.unpackKey(packed, 0);
            bool ok = true;
            if (i == 0) sum = key;
            else (ok, sum) = BLS12381.addKeys(sum, key);
            assert(ok);
            total += weights[i];
        }
        return bytes.concat(BLS12381.packKey(sum), bytes12(total), body);
    }

    /// @dev `committeeSize` distinct seats, each as likely as another.
    function _draw(bytes32 seed, uint256 count) private view returns (uint112 seats) {
        uint256 drawn;
        for (uint256 i; drawn < committeeSize; ++i) {
            uint112 bit = uint112(1) << uint112(uint256(keccak256(abi.encode(seed, i))) % count);
            if (seats & bit != 0) continue;
            seats |= bit;
            ++drawn;
        }
    }

    function _isAt(uint64 epoch, uint256 seat, address verifier) private view returns (bool) {
        (address there,) = seatAt(setOf(epoch), seat);
        return there == verifier;
    }

    function _seatBytes(address blob, uint256 seat) private view returns (bytes memory) {
        uint256 at = HEADER_BYTES + seat * SEAT_BYTES;
        return SSTORE2.read(blob, at, at + SEAT_BYTES);
    }

    function _head(bytes memory data, uint256 at) private pure returns (address verifier, uint96 weight) {
        uint256 word;
        assembly ("memory-safe") {
            word := mload(add(add(data, 32), at))
        }
        return (address(uint160(word >> 96)), uint96(word));
    }

    function _totalWeight(bytes memory header) private pure returns (uint96) {
        uint256 word;
        assembly ("memory-safe") {
            word := mload(add(header, 204))
        }
        return uint96(word);
    }

    function _all(uint256 count) private pure returns (uint112) {
        return uint112((uint256(1) << count) - 1);
    }

    function _pausable(bytes4 selector) internal pure override returns (bool) {
        return selector == this.register.selector;
    }
}
