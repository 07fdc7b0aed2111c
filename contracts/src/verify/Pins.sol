// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IPins} from "../interfaces/IPins.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";

/// @notice Documented in IPins.
contract Pins is IPins, Sequenced {
    bytes32 public constant DUTY_PURPOSE = "DUTY";
    uint256 private constant PARTS_PER_MILLION = 1_000_000;

    ICommitmentLog public immutable log;
    IVerifierSet public immutable verifiers;
    uint64 public immutable pinWindow;
    uint64 public immutable retention;

    mapping(bytes32 pinId => uint64) private _until;

    constructor(ICommitmentLog log_, IVerifierSet verifiers_, uint64 pinWindow_, uint64 retention_) {
        log = log_;
        verifiers = verifiers_;
        pinWindow = pinWindow_;
        retention = retention_;
    }

    /// @inheritdoc IPins
    function pin(Anchored calldata r, uint256 seat, bytes calldata dutySignature) external {
        ICommitmentLog.Anchor memory b = log.batch(r.provider, r.batchId);
        require(MerkleProof.verifyCalldata(r.proof, b.root, r.leaf), NotAnchored());
        require(block.timestamp <= b.anchoredAt + pinWindow, WindowOver(b.anchoredAt + pinWindow));
        bytes32 pinId = keccak256(abi.encode(r.provider, r.batchId, r.leaf));
        require(_until[pinId] == 0, AlreadyPinned());
        _requireDuty(r, b, seat, dutySignature);
        uint64 until = b.anchoredAt + retention;
        _until[pinId] = until;
        emit Pinned(_next(), r.provider, r.batchId, msg.sender, r.leaf, until);
    }

    /// @inheritdoc IPins
    function pinnedUntil(address provider, uint64 batchId, bytes32 leaf) external view returns (uint64) {
        return _until[keccak256(abi.encode(provider, batchId, leaf))];
    }

    /// @inheritdoc IPins
    function isDrawn(
        bytes calldata dutySignature,
        address provider,
        uint64 batchId,
        bytes32 leaf,
        uint256 rate,
        uint256 weight,
        uint256 total
    ) public pure returns (bool) {
        bytes32 digest = keccak256(bytes.concat(dutySignature, abi.encode(provider, batchId, leaf)));
        // digest / 2^256 < rate * weight / (10^6 * total), without rounding: the high word of a 512-bit product.
        (uint256 high,) = Math.mul512(uint256(digest), PARTS_PER_MILLION * total);
        return high < rate * weight;
    }

    function _requireDuty(Anchored calldata r, ICommitmentLog.Anchor memory b, uint256 seat, bytes calldata dutySignature) private view {
        (address verifier, uint96 weight) = verifiers.seatAt(verifiers.setOf(b.epoch), seat);
        bool signed = verifier == msg.sender
            && verifiers.verifySeat(DUTY_PURPOSE, address(verifiers), b.epoch, log.tip(b.epoch), seat, dutySignature);
        require(signed, BadDutySignature(b.epoch, seat));
        uint256 total = verifiers.totalWeight(b.epoch);
        require(isDrawn(dutySignature, r.provider, r.batchId, r.leaf, b.auditRate, weight, total), NotDrawn());
    }
}
