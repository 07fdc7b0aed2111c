// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {Guarded} from "../access/Guarded.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {IStaking} from "../interfaces/IStaking.sol";

/// @notice Documented in IProviderRegistry.
contract ProviderRegistry is IProviderRegistry, Guarded {
    /// @notice The contracts that the registry reads, and the one that jails.
    struct Wiring {
        IStaking staking;
        IModelRegistry models;
        address disputes;
    }

    /// @param former whether the key has been replaced
    struct Key {
        address provider;
        bool former;
    }

    IStaking public immutable staking;
    IModelRegistry public immutable models;
    address public immutable disputes;
    uint128 public immutable minimumStake;
    uint128 public immutable gpuStake;
    uint64 public immutable jailPeriod;
    uint64 public immutable rotationThaw;

    mapping(address provider => uint256) public activeOffers;
    mapping(address provider => uint256) public activeGpus;

    address[] private _providers;
    mapping(address operator => Key) private _keys;
    mapping(address provider => Provider) private _info;
    mapping(address provider => Rotation) private _rotations;
    mapping(address provider => Gpu[]) private _gpus;
    mapping(address provider => mapping(uint256 gpuId => bool)) private _retired;
    mapping(address provider => Offer[]) private _offers;

    modifier onlyProvider() {
        require(_info[msg.sender].operator != address(0), NotRegistered(msg.sender));
        _;
    }

    constructor(address authority, Wiring memory w, uint128 minimumStake_, uint128 gpuStake_, uint64 jailPeriod_, uint64 rotationThaw_)
        AccessManaged(authority)
    {
        staking = w.staking;
        models = w.models;
        disputes = w.disputes;
        minimumStake = minimumStake_;
        gpuStake = gpuStake_;
        jailPeriod = jailPeriod_;
        rotationThaw = rotationThaw_;
    }

    /// @inheritdoc IProviderRegistry
    function register(address operator, string calldata endpoint, bytes32 tlsCertHash) external whenOpen {
        require(_info[msg.sender].operator == address(0), AlreadyRegistered(msg.sender));
        uint256 has = staking.stakeOf(msg.sender);
        require(has >= minimumStake, StakeBelowMinimum(has, minimumStake));
        _bind(operator);
        _info[msg.sender] = Provider(operator, endpoint, tlsCertHash, 0, uint64(block.timestamp));
        _providers.push(msg.sender);
        emit ProviderRegistered(_next(), msg.sender, operator, endpoint, tlsCertHash);
    }

    /// @inheritdoc IProviderRegistry
    function setEndpoint(string calldata endpoint, bytes32 tlsCertHash) external onlyProvider {
        _info[msg.sender].endpoint = endpoint;
        _info[msg.sender].tlsCertHash = tlsCertHash;
        emit EndpointChanged(_next(), msg.sender, endpoint, tlsCertHash);
    }

    /// @inheritdoc IProviderRegistry
    function startRotation(address operator) external onlyProvider {
        _requireFree(operator);
        uint64 from = uint64(block.timestamp) + rotationThaw;
        _rotations[msg.sender] = Rotation(operator, from);
        emit RotationStarted(_next(), msg.sender, operator, from);
    }

    /// @inheritdoc IProviderRegistry
    function finishRotation() external onlyProvider {
        Rotation memory r = _rotations[msg.sender];
        require(r.from != 0, NoRotation());
        require(block.timestamp >= r.from, StillThawing(r.from));
        delete _rotations[msg.sender];
        _keys[_info[msg.sender].operator].former = true;
        _bind(r.operator);
        _info[msg.sender].operator = r.operator;
        emit OperatorChanged(_next(), msg.sender, r.operator);
    }

    /// @inheritdoc IProviderRegistry
    function registerGpu(Gpu calldata gpu) external whenOpen onlyProvider returns (uint256 gpuId) {
        ++activeGpus[msg.sender];
        _requireStake(msg.sender);
        gpuId = _gpus[msg.sender].length;
        _gpus[msg.sender].push(gpu);
        emit GpuRegistered(_next(), msg.sender, gpuId, gpu.model, gpu.vram, gpu.bandwidth, gpu.score, gpu.attestationHash);
    }

    /// @inheritdoc IProviderRegistry
    function retireGpu(uint256 gpuId) external onlyProvider {
        require(gpuId < _gpus[msg.sender].length && !_retired[msg.sender][gpuId], NoSuchGpu(gpuId));
        _retired[msg.sender][gpuId] = true;
        --activeGpus[msg.sender];
        emit GpuRetired(_next(), msg.sender, gpuId);
    }

    /// @inheritdoc IProviderRegistry
    function makeOffer(Offer calldata offer) external whenOpen onlyProvider returns (uint256 offerId) {
        require(models.statusOf(offer.modelId) == IModelRegistry.Status.Active, NoSuchModel(offer.modelId));
        require(models.canCut(offer.modelId, offer.firstLayer, offer.endLayer), BadLayerRange(offer.firstLayer, offer.endLayer));
        require(_info[msg.sender].jailedUntil == 0, Jailed(_info[msg.sender].jailedUntil));
        ++activeOffers[msg.sender];
        _requireStake(msg.sender);
        offerId = _offers[msg.sender].length;
        Offer memory made = offer;
        made.active = true;
        _offers[msg.sender].push(made);
        emit OfferMade(_next(), msg.sender, offer.modelId, offerId, made);
    }

    /// @inheritdoc IProviderRegistry
    function withdrawOffer(uint256 offerId) external onlyProvider {
        require(offerId < _offers[msg.sender].length && _offers[msg.sender][offerId].active, NoSuchOffer(offerId));
        _offers[msg.sender][offerId].active = false;
        --activeOffers[msg.sender];
        emit OfferWithdrawn(_next(), msg.sender, _offers[msg.sender][offerId].modelId, offerId);
    }

    /// @inheritdoc IProviderRegistry
    function jail(address provider) external {
        require(msg.sender == disputes, NotAllowed(msg.sender));
        uint64 until = uint64(block.timestamp) + jailPeriod;
        _info[provider].jailedUntil = until;
        emit ProviderJailed(_next(), provider, until);
    }

    /// @inheritdoc IProviderRegistry
    function unjail() external onlyProvider {
        uint64 until = _info[msg.sender].jailedUntil;
        require(until <= block.timestamp, Jailed(until));
        _info[msg.sender].jailedUntil = 0;
        emit ProviderUnjailed(_next(), msg.sender);
    }

    /// @inheritdoc IProviderRegistry
    function providerOf(address operator) external view returns (address) {
        return _keys[operator].provider;
    }

    /// @inheritdoc IProviderRegistry
    function providerOfOperator(address operator) external view returns (address) {
        Key memory key = _keys[operator];
        return key.former ? address(0) : key.provider;
    }

    /// @inheritdoc IProviderRegistry
    function rotationOf(address provider) external view returns (Rotation memory) {
        return _rotations[provider];
    }

    /// @inheritdoc IProviderRegistry
    function requiredStake(address provider) public view returns (uint256) {
        return uint256(minimumStake) * activeOffers[provider] + uint256(gpuStake) * activeGpus[provider];
    }

    /// @inheritdoc IProviderRegistry
    function providerInfo(address provider) external view returns (Provider memory) {
        return _info[provider];
    }

    /// @inheritdoc IProviderRegistry
    function gpusOf(address provider) external view returns (Gpu[] memory) {
        return _gpus[provider];
    }

    /// @inheritdoc IProviderRegistry
    function offersOf(address provider) external view returns (Offer[] memory) {
        return _offers[provider];
    }

    /// @inheritdoc IProviderRegistry
    function offerAt(address provider, uint256 offerId) external view returns (Offer memory) {
        require(offerId < _offers[provider].length, NoSuchOffer(offerId));
        return _offers[provider][offerId];
    }

    /// @inheritdoc IProviderRegistry
    function isServing(address provider) public view returns (bool) {
        Provider storage info = _info[provider];
        if (info.operator == address(0) || info.jailedUntil != 0) return false;
        return staking.stakeOf(provider) >= requiredStake(provider);
    }

    /// @inheritdoc IProviderRegistry
    function offersFor(bytes32 modelId) external view returns (OfferView[] memory found) {
        uint256 count;
        for (uint256 pass; pass < 2; ++pass) {
            if (pass == 1) found = new OfferView[](count);
            count = 0;
            for (uint256 i; i < _providers.length; ++i) {
                address provider = _providers[i];
                if (!isServing(provider)) continue;
                Offer[] storage offers = _offers[provider];
                for (uint256 k; k < offers.length; ++k) {
                    if (!offers[k].active || offers[k].modelId != modelId) continue;
                    if (pass == 1) found[count] = _view(provider, k);
                    ++count;
                }
            }
        }
    }

    function _view(address provider, uint256 offerId) private view returns (OfferView memory) {
        Provider storage info = _info[provider];
        return OfferView(provider, offerId, info.operator, info.endpoint, info.tlsCertHash, _offers[provider][offerId]);
    }

    function _bind(address operator) private {
        _requireFree(operator);
        _keys[operator].provider = msg.sender;
    }

    function _requireFree(address operator) private view {
        require(operator != address(0) && _keys[operator].provider == address(0), OperatorTaken(operator));
    }

    function _requireStake(address provider) private view {
        (uint256 has, uint256 needs) = (staking.stakeOf(provider), requiredStake(provider));
        require(has >= needs, StakeBelowMinimum(has, needs));
    }

    function _pausable(bytes4 selector) internal pure override returns (bool) {
        return selector == this.register.selector || selector == this.registerGpu.selector || selector == this.makeOffer.selector;
    }
}
