// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IContradictions} from "../interfaces/IContradictions.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {ReceiptLib} from "../libraries/ReceiptLib.sol";

/// @notice Documented in IContradictions.
contract Contradictions is IContradictions, Sequenced {
    uint64 public constant NOTE_DELAY = 1;

    ICommitmentLog public immutable log;
    IProviderRegistry public immutable registry;
    IDisputes public immutable disputes;
    bytes32 private immutable _domain;

    mapping(bytes32 hash => uint64) public notedAt;
    mapping(address provider => mapping(uint64 number => bool)) public proven;

    constructor(ICommitmentLog log_, IProviderRegistry registry_, IDisputes disputes_) {
        log = log_;
        registry = registry_;
        disputes = disputes_;
        _domain = ReceiptLib.domainSeparator(address(log_));
    }

    /// @inheritdoc IContradictions
    function note(bytes32 hash) external {
        // A copied note must not restart the first one's clock.
        if (notedAt[hash] == 0) notedAt[hash] = uint64(block.timestamp);
    }

    /// @inheritdoc IContradictions
    function prove(ReceiptLib.Receipt calldata signed, bytes calldata signature, Anchored calldata anchored, bytes32 salt) external {
        (address provider, uint64 number) = (signed.provider, signed.number);
        bytes32 hash = keccak256(abi.encode(provider, number, msg.sender, salt));
        require(notedAt[hash] != 0 && block.timestamp >= notedAt[hash] + NOTE_DELAY, NotNoted(hash));
        // One number, one offence, however many receipts contradict it.
        require(!proven[provider][number], AlreadyProven(provider, number));
        proven[provider][number] = true;
        _requireAnchored(anchored);
        bytes32 signedHash = ReceiptLib.structHash(signed);
        _requireContradiction(signedHash, signature, signed, anchored.receipt);
        uint96 slashed = disputes.punish(provider, msg.sender);
        emit ContradictionProven(_next(), provider, msg.sender, number, signedHash, slashed);
    }

    function _requireAnchored(Anchored calldata a) private view {
        ICommitmentLog.Anchor memory b = log.batch(a.receipt.provider, a.batchId);
        require(MerkleProof.verifyCalldata(a.proof, b.root, ReceiptLib.leaf(a.receipt)), NotAnchored());
        uint64 until = b.anchoredAt + disputes.parameters().disputeWindow;
        require(block.timestamp <= until, WindowOver(until));
    }

    function _requireContradiction(
        bytes32 signedHash,
        bytes calldata signature,
        ReceiptLib.Receipt calldata signed,
        ReceiptLib.Receipt calldata anchored
    ) private view {
        bool same = signed.provider == anchored.provider && signed.number == anchored.number;
        require(same && signedHash != ReceiptLib.structHash(anchored), NoContradiction());
        (address signer, ECDSA.RecoverError fault,) =
            ECDSA.tryRecoverCalldata(MessageHashUtils.toTypedDataHash(_domain, signedHash), signature);
        require(fault == ECDSA.RecoverError.NoError && registry.providerOf(signer) == signed.provider, NoContradiction());
    }
}
