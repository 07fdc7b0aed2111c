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
import {CheckpointLib} from "../libraries/CheckpointLib.sol";
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
        (address provider, uint64 number) = _begin(anchored, salt);
        bytes32 signedHash = ReceiptLib.structHash(signed);
        bool same = signed.provider == provider && signed.number == number;
        require(same && signedHash != ReceiptLib.structHash(anchored.receipt), NoContradiction());
        _convict(provider, number, signedHash, signature);
    }

    /// @inheritdoc IContradictions
    function proveCheckpoints(
        CheckpointLib.Checkpoint calldata signed,
        bytes calldata signature,
        CheckpointLib.Checkpoint calldata named,
        Anchored calldata anchored,
        bytes32 salt
    ) external {
        (address provider, uint64 number) = _begin(anchored, salt);
        require(CheckpointLib.structHash(named) == anchored.receipt.checkpoint && named.provider == provider, NoContradiction());
        bool differ = signed.rootIn != named.rootIn || signed.rootOut != named.rootOut;
        require(CheckpointLib.samePlace(signed, named) && differ, NoContradiction());
        _convict(provider, number, CheckpointLib.structHash(signed), signature);
    }

    /// @dev What every proof needs: a note by the caller, a receipt of which nothing was proven yet, and its place on chain.
    function _begin(Anchored calldata a, bytes32 salt) private returns (address provider, uint64 number) {
        (provider, number) = (a.receipt.provider, a.receipt.number);
        bytes32 hash = keccak256(abi.encode(provider, number, msg.sender, salt));
        require(notedAt[hash] != 0 && block.timestamp >= notedAt[hash] + NOTE_DELAY, NotNoted(hash));
        // One number, one offence, however many signatures contradict it.
        require(!proven[provider][number], AlreadyProven(provider, number));
        proven[provider][number] = true;
        ICommitmentLog.Anchor memory b = log.batch(provider, a.batchId);
        require(MerkleProof.verifyCalldata(a.proof, b.root, ReceiptLib.leaf(a.receipt)), NotAnchored());
        uint64 until = b.anchoredAt + disputes.parameters().disputeWindow;
        require(block.timestamp <= until, WindowOver(until));
    }

    function _convict(address provider, uint64 number, bytes32 signedHash, bytes calldata signature) private {
        (address signer, ECDSA.RecoverError fault,) =
            ECDSA.tryRecoverCalldata(MessageHashUtils.toTypedDataHash(_domain, signedHash), signature);
        require(fault == ECDSA.RecoverError.NoError && registry.providerOf(signer) == provider, NoContradiction());
        uint96 slashed = disputes.punish(provider, msg.sender);
        emit ContradictionProven(_next(), provider, msg.sender, number, signedHash, slashed);
    }
}
