// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {IStaking} from "../interfaces/IStaking.sol";

/// @notice Documented in IProviderRegistry.
contract ProviderRegistry is IProviderRegistry, AccessManaged, Sequenced {
    IStaking public immutable staking;
    uint128 public immutable minimumStake;
    uint64 public immutable jailPeriod;

    /// @inheritdoc IProviderRegistry
    mapping(address operator => address provider) public providerOf;
    mapping(address provider => uint256) public activeOffers;

    address[] private _providers;
    mapping(address => Provider) private _info;
    mapping(address => Gpu[]) private _gpus;
    mapping(address => Offer[]) private _offers;

    modifier onlyProvider() {
        require(_info[msg.sender].operator != address(0), NotRegistered(msg.sender));
        _;
    }

    constructor(address authority, IStaking staking_, uint128 minimumStake_, uint64 jailPeriod_) AccessManaged(authority) {
        staking = staking_;
        minimumStake = minimumStake_;
        jailPeriod = jailPeriod_;
    }

    /// @inheritdoc IProviderRegistry
    function register(address operator, string calldata endpoint, bytes32 tlsCertHash) external {
        require(_info[msg.sender].operator == address(0), AlreadyRegistered(msg.sender));
        _requireStake(msg.sender, 1);
        _bindOperator(operator);
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
    function setOperator(address operator) external onlyProvider {
        _bindOperator(operator);
        _info[msg.sender].operator = operator;
        emit OperatorChanged(_next(), msg.sender, operator);
    }

    /// @inheritdoc IProviderRegistry
    function registerGpu(Gpu calldata gpu) external onlyProvider returns (uint256 gpuId) {
        gpuId = _gpus[msg.sender].length;
        _gpus[msg.sender].push(gpu);
        emit GpuRegistered(_next(), msg.sender, gpuId, gpu.model, gpu.vram, gpu.bandwidth, gpu.score, gpu.attestationHash);
    }

    /// @inheritdoc IProviderRegistry
    function makeOffer(Offer calldata offer) external onlyProvider returns (uint256 offerId) {
        require(offer.firstLayer < offer.endLayer, BadLayerRange(offer.firstLayer, offer.endLayer));
        require(_info[msg.sender].jailedUntil == 0, Jailed(_info[msg.sender].jailedUntil));
        _requireStake(msg.sender, ++activeOffers[msg.sender]);
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
    function jail(address provider) external restricted {
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
        return staking.stakeOf(provider) >= uint256(minimumStake) * activeOffers[provider];
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

    function _bindOperator(address operator) private {
        require(operator != address(0) && providerOf[operator] == address(0), OperatorTaken(operator));
        providerOf[operator] = msg.sender;
    }

    function _requireStake(address provider, uint256 offers) private view {
        uint256 has = staking.stakeOf(provider);
        require(has >= minimumStake * offers, StakeBelowMinimum(has, minimumStake * offers));
    }
}
